"""Stand-in of the extension SlicerPyTorch: records what it is asked to install.

Only importable after Host.add_extension_modules(), as the real one is only there if the user has
installed the extension.
"""


class PyTorchUtilsLogic:
    calls: list[dict] = []  # one entry for each installTorch
    isInstalled = False
    isConsentGiven = True

    def torchInstalled(self):
        return type(self).isInstalled

    def installTorch(
        self,
        askConfirmation=False,
        forceComputationBackend=None,
        torchVersionRequirement=None,
        torchvisionVersionRequirement=None,
    ):
        """Return the module torch, or None if the user declines; here always None."""
        options = {name: value for name, value in locals().items() if name != "self"}
        type(self).calls.append(options)
        type(self).isInstalled = type(self).isConsentGiven
