"""The published base networks, with the facts their publishers give. Standard library only.

Every fact has its source in docs/models.md; what could not be confirmed is left empty.
"""

from __future__ import annotations

from functools import partial

from reglora_core.models.entry import ModelEntry

CUBE = (96, 96, 96)
ABDOMEN_HU = (-175.0, 250.0)
MEDSAM_HU = (-160.0, 240.0)  # level 40, width 400

# queries, keys and values of the attention, as in the paper
ATTENTION = r"^swinViT\.layers\d\.\d\.blocks\.\d\.attn\.qkv$"
# of convolutional networks the coarse half of the encoder, and the decoder
SEGRESNET = (
    r"^down_layers\.[23]\.\d\.(conv|conv\d\.conv)$|^up_layers\..*conv\d\.conv$|^up_samples\..*conv$"
)
SEGRESNET_DS = r"^encoder\.layers\.[2-4]\..*conv\d$|^up_layers\.\d\.(upsample\.deconv|.*conv\d)$"
SAM = r"^image_encoder\.blocks\.\d+\.attn\.qkv$"
UNET = r"^(down_tr256|down_tr512|up_tr\d+)\..*(conv1|up_conv)$"


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ABDOMEN = _names(
    "spleen kidney_right kidney_left gall_bladder esophagus liver stomach aorta postcava "
    "portal_vein_and_splenic_vein pancreas adrenal_gland_right adrenal_gland_left duodenum "
    "hepatic_vessel lung_right lung_left colon intestine rectum bladder prostate femur_left "
    "femur_right celiac_truck kidney_tumor liver_tumor pancreas_tumor hepatic_vessel_tumor "
    "lung_tumor colon_tumor kidney_cyst"
)
_FSEFT = _names(
    "spleen rkidney lkidney gall esophagus liver stomach aorta postcava psv pancreas radrenal "
    "ladrenal duodenum bladder prost_ut liver_tumor kidney_tumor kidney_cyst celiac_truck rlung "
    "llung bone brain lung_tumor pancreas_tumor hv hvt colon_tumor"
)
_BTCV = _names(
    "background spleen right_kidney left_kidney gallbladder esophagus liver stomach aorta ivc "
    "portal_and_splenic_veins pancreas right_adrenal_gland left_adrenal_gland"
)
_VERTEBRAE = tuple(
    f"vertebrae_{part}{number}"
    for part, count in (("L", 5), ("T", 12), ("C", 7))
    for number in range(count, 0, -1)
)
_RIBS = tuple(f"rib_{side}_{number}" for side in ("left", "right") for number in range(1, 13))
_WHOLE_BODY = (
    *_names(
        "background spleen kidney_right kidney_left gallbladder liver stomach aorta "
        "inferior_vena_cava portal_vein_and_splenic_vein pancreas adrenal_gland_right "
        "adrenal_gland_left lung_upper_lobe_left lung_lower_lobe_left lung_upper_lobe_right "
        "lung_middle_lobe_right lung_lower_lobe_right"
    ),
    *_VERTEBRAE,
    *_names(
        "esophagus trachea heart_myocardium heart_atrium_left heart_ventricle_left "
        "heart_atrium_right heart_ventricle_right pulmonary_artery brain iliac_artery_left "
        "iliac_artery_right iliac_vena_left iliac_vena_right small_bowel duodenum colon"
    ),
    *_RIBS,
    *_names(
        "humerus_left humerus_right scapula_left scapula_right clavicula_left clavicula_right "
        "femur_left femur_right hip_left hip_right sacrum face gluteus_maximus_left "
        "gluteus_maximus_right gluteus_medius_left gluteus_medius_right gluteus_minimus_left "
        "gluteus_minimus_right autochthon_left autochthon_right iliopsoas_left iliopsoas_right "
        "urinary_bladder"
    ),
)

_SUPREM_FILES = "https://huggingface.co/MrGiovanni/SuPreM/resolve/main"
_MONAI_FILES = "https://developer.download.nvidia.com/assets/Clara/monai/tutorials/model_zoo"
_SAM_FILES = "https://dl.fbaipublicfiles.com/segment_anything"
_MODEL_ZOO = "https://github.com/Project-MONAI/model-zoo/tree/dev/models"

_swin = partial(
    ModelEntry,
    family="swinunetr",
    modality="CT",
    window=ABDOMEN_HU,
    spacing_mm=1.5,
    patch_size=CUBE,
    adapter_targets=ATTENTION,
    orientation="RAS",
    parameters="62.2 M",
)

_suprem = partial(
    ModelEntry,
    licence="stated differently: Apache-2.0 on the weights' page, MIT or CC BY-NC-ND 4.0 in the "
    "repository, depending on its age",
    terms="unclear",
    licence_url="https://huggingface.co/MrGiovanni/SuPreM",
    page="https://github.com/MrGiovanni/SuPreM",
    modality="CT",
    window=ABDOMEN_HU,
    spacing_mm=1.5,
    patch_size=CUBE,
    orientation="RAS",
    citation="Li, Yuille, Zhou: How Well Do Supervised 3D Models Transfer to Medical Imaging "
    "Tasks? ICLR 2024",
    classes=_ABDOMEN,
)

_whole_body = partial(
    ModelEntry,
    family="segresnet",
    licence="Apache-2.0",
    licence_url="https://www.apache.org/licenses/LICENSE-2.0",
    page=f"{_MODEL_ZOO}/wholeBody_ct_segmentation",
    modality="CT",
    # the publishers map each scan's own least and greatest value; these are the medians of nine
    # public CTs
    window=(-1024.0, 2200.0),
    input_range=(-1.0, 1.0),
    patch_size=CUBE,
    adapter_targets=SEGRESNET,
    orientation="RAS",
    size_mb=75.0,
    citation="MONAI Consortium, bundle wholeBody_ct_segmentation; data: Wasserthal et al., "
    "arXiv 2208.05868",
    parameters="18.8 M",
    classes=_WHOLE_BODY,
)

_sam = partial(
    ModelEntry,
    family="sam",
    licence="Apache-2.0",
    licence_url="https://github.com/facebookresearch/segment-anything/blob/main/LICENSE",
    page="https://github.com/facebookresearch/segment-anything",
    modality="photographs",
    window=MEDSAM_HU,
    input_range=(0.0, 255.0),
    # four voxels a token, so 384 mm are one image of 1024 x 1024; 3 mm from slice to slice
    spacing_mm=(3.0, 1.5, 1.5),
    patch_size=(1, 256, 256),
    adapter_targets=SAM,
    orientation="slices, anterior or superior up",
    citation="Kirillov et al.: Segment Anything, ICCV 2023, arXiv 2304.02643",
)

PUBLISHED = (
    _swin(
        name="fseft-swinunetr",
        description="SwinUNETR of FSEFT, trained on 29 structures in 2022 CTs of 9 data sets",
        licence="none stated",
        terms="unclear",
        page="https://github.com/jusiro/fewshot-finetuning",
        url="https://drive.usercontent.google.com/download?id=18yLNxmWGnVifQNeYYwyyu56Cg4tWV9aW"
        "&export=download&confirm=t",
        file_name="fseft.pth",
        citation="Silva-Rodriguez, Dolz, Ben Ayed, Medical Image Analysis 103 (2025) 103596, "
        "arXiv 2303.17051",
        classes=_FSEFT,
    ),
    _suprem(
        name="suprem-swinunetr",
        family="swinunetr",
        description="SwinUNETR of SuPreM, trained on 25 organs and 7 tumours in 2100 CTs",
        adapter_targets=ATTENTION,
        url=f"{_SUPREM_FILES}/supervised_suprem_swinunetr_2100.pth",
        file_name="supervised_suprem_swinunetr_2100.pth",
        parameters="62.2 M",
    ),
    _suprem(
        name="suprem-unet",
        family="unet3d",
        description="U-Net of SuPreM, trained on 25 organs and 7 tumours in 2100 CTs",
        adapter_targets=UNET,
        url=f"{_SUPREM_FILES}/supervised_suprem_unet_2100.pth",
        file_name="supervised_suprem_unet_2100.pth",
        parameters="19.1 M",
    ),
    _suprem(
        name="suprem-segresnet",
        family="segresnet",
        description="SegResNet of SuPreM, trained on 25 organs and 7 tumours in 2100 CTs",
        adapter_targets=SEGRESNET,
        url=f"{_SUPREM_FILES}/supervised_suprem_segresnet_2100.pth",
        file_name="supervised_suprem_segresnet_2100.pth",
        size_mb=56.5,
        parameters="4.7 M",
    ),
    _swin(
        name="clip-driven-swinunetr",
        description="SwinUNETR of the CLIP-Driven Universal Model, 25 organs and 7 tumours",
        licence="CC BY-NC-ND 4.0",
        terms="non-commercial",
        licence_url="https://github.com/ljwztc/CLIP-Driven-Universal-Model/blob/main/LICENSE",
        page="https://github.com/ljwztc/CLIP-Driven-Universal-Model",
        url=f"{_SUPREM_FILES}/supervised_clip_driven_universal_swin_unetr_2100.pth",
        file_name="supervised_clip_driven_universal_swin_unetr_2100.pth",
        citation="Liu et al.: CLIP-Driven Universal Model for Organ Segmentation and Tumor "
        "Detection, ICCV 2023, arXiv 2301.00785",
        classes=_ABDOMEN,
    ),
    _swin(
        name="monai-swinvit-ssl",
        family="swinvit",
        description="encoder of SwinUNETR, trained without labels on about 5050 CTs",
        licence="none stated for the weights; the code beside them is Apache-2.0",
        terms="unclear",
        page="https://github.com/Project-MONAI/research-contributions/tree/main/SwinUNETR/Pretrain",
        url="https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
        "model_swinvit.pt",
        file_name="model_swinvit.pt",
        window=(-1000.0, 1000.0),
        spacing_mm=(2.0, 1.5, 1.5),
        adapter_targets=r"^layers\d\.\d\.blocks\.\d\.attn\.qkv$",
        citation="Tang et al.: Self-Supervised Pre-Training of Swin Transformers for 3D Medical "
        "Image Analysis, CVPR 2022, arXiv 2111.14791",
        parameters="8.1 M",
    ),
    _swin(
        name="monai-swinunetr-btcv",
        description="SwinUNETR of MONAI's model zoo, trained on 13 abdominal organs (BTCV)",
        licence="Apache-2.0",
        licence_url="https://www.apache.org/licenses/LICENSE-2.0",
        page=f"{_MODEL_ZOO}/swin_unetr_btcv_segmentation",
        url=f"{_MONAI_FILES}/model_swin_unetr_btcv_segmentation_v1.pt",
        file_name="model_swin_unetr_btcv_segmentation_v1.pt",
        md5="50dd67a01b28a1d5487fd9ac27e682fb",
        spacing_mm=(2.0, 1.5, 1.5),
        citation="MONAI Consortium, bundle swin_unetr_btcv_segmentation; Hatamizadeh et al., "
        "arXiv 2201.01266",
        classes=_BTCV,
    ),
    _whole_body(
        name="monai-wholebody",
        description="SegResNet of MONAI's model zoo, 104 structures of the body, 1.5 mm",
        spacing_mm=1.5,
        url=f"{_MONAI_FILES}/model_wholebody_ct_segmentation.pt",
        file_name="model_wholebody_ct_segmentation.pt",
        md5="aded45dea52f9c00b37922bcd0a98502",
    ),
    _whole_body(
        name="monai-wholebody-3mm",
        description="SegResNet of MONAI's model zoo, 104 structures of the body, 3 mm",
        spacing_mm=3.0,
        url=f"{_MONAI_FILES}/model_lowres_wholebody_ct_segmentation.pt",
        file_name="model_lowres_wholebody_ct_segmentation.pt",
        md5="dbdebeae650f4fb5ea7f4ad01e0d2431",
    ),
    ModelEntry(
        name="vista3d",
        family="segresnet-ds",
        description="image encoder of VISTA3D, trained on 127 structures in 11454 CTs",
        licence="NVIDIA License: research or evaluation only, also for what is derived from it",
        terms="non-commercial",
        licence_url=f"{_MODEL_ZOO}/vista3d/LICENSE.weights",
        page="https://github.com/Project-MONAI/VISTA/tree/main/vista3d",
        modality="CT",
        window=(-963.8247715525971, 1053.678477684517),
        spacing_mm=1.5,
        patch_size=(128, 128, 128),
        adapter_targets=SEGRESNET_DS,
        orientation="RAS",
        url=f"{_MONAI_FILES}/model_vista3d.pt",
        file_name="model_vista3d.pt",
        size_mb=870.0,
        md5="6ce45a8edde4400c5d28d5e74d7b61d5",
        citation="He et al.: VISTA3D: A Unified Segmentation Foundation Model For 3D Medical "
        "Imaging, CVPR 2025, arXiv 2406.05285",
        parameters="196 M",
    ),
    _sam(
        name="sam-vit-b",
        description="Segment Anything, ViT-B: 2D, trained on 11 million photographs",
        url=f"{_SAM_FILES}/sam_vit_b_01ec64.pth",
        file_name="sam_vit_b_01ec64.pth",
        size_mb=375.0,
        parameters="93.7 M",
    ),
    _sam(
        name="sam-vit-l",
        description="Segment Anything, ViT-L: 2D, trained on 11 million photographs",
        url=f"{_SAM_FILES}/sam_vit_l_0b3195.pth",
        file_name="sam_vit_l_0b3195.pth",
        size_mb=1249.0,
        parameters="312 M",
    ),
    _sam(
        name="sam-vit-h",
        description="Segment Anything, ViT-H: 2D, trained on 11 million photographs",
        url=f"{_SAM_FILES}/sam_vit_h_4b8939.pth",
        file_name="sam_vit_h_4b8939.pth",
        size_mb=2564.0,
        parameters="641 M",
    ),
    _sam(
        name="medsam-vit-b",
        description="MedSAM, ViT-B: 2D, SAM trained further on 1.57 million medical images",
        licence_url="https://github.com/bowang-lab/MedSAM/blob/main/LICENSE",
        page="https://github.com/bowang-lab/MedSAM",
        modality="CT, MR and others",
        input_range=(0.0, 1.0),
        url="https://zenodo.org/records/10689643/files/medsam_vit_b.pth",
        file_name="medsam_vit_b.pth",
        size_mb=375.0,
        md5="3bb6db55bd0c9ca30b61248bca72f8d6",
        citation="Ma et al.: Segment Anything in Medical Images, Nature Communications 15 (2024) "
        "654, arXiv 2304.12306",
        parameters="93.7 M",
    ),
    _swin(
        name="swinunetr",
        description="a SwinUNETR of your own, its weights imported from a file; FSEFT's input",
        licence="of the file's publishers",
        citation="Hatamizadeh et al., arXiv 2201.01266",
    ),
)
