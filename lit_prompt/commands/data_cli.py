"""The settings of ``fit``, read for the sake of their data module alone."""

from lit_prompt.cli import PromptCLI
from lit_prompt.data import TargetDataModule


class DataCLI(PromptCLI):
    """Reads what ``fit`` reads, and makes the data module alone."""

    def instantiate_classes(self) -> None:
        """Leaves the LM's weights where they are: targets may be built where no LM would fit."""
        config = self.config["fit"]
        data = type(config)(data=config.data)
        self.datamodule: TargetDataModule = self._parser("fit").instantiate_classes(data).data

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs nothing."""
