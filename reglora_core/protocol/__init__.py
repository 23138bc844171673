"""The k-shot protocol as data and code: who may see which patient, and which shots are drawn.

    dataset = read_dataset(Path("openkbp.json"))        what is where, and who is who
    inventory = take_inventory(dataset, Path("data"))   what is on the disk, and what is wrong
    tasks = few_shot_tasks(inventory, shots=(1, 5, 10), folds=3, seeds=1)
    case = read_case(inventory, "pt_12", purpose="fit")   refused where the role forbids it

| module | |
|---|---|
| `dataset` | one JSON file per dataset; its organs, roles and fixed lists |
| `finding` | the files: cases, what is drawn in them, what is misnamed, alone or damaged |
| `lists` | FSEFT's published lists of shots and test patients |
| `inventory` | every case and every problem, by rule |
| `sampling` | FSEFT's rule for shots, and the list of few-shot tasks |
| `access` | who may be seen for what; what a base network has seen |
| `cases` | one patient: image, organs, which of them are known |
| `command` | `reglora bench check` |
"""
