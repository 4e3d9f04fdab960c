"""The W&B logger of a run: grouped names, one row a step, best values, models, alerts; no failure ends a training."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from cgan.interfaces import Report, silent
from cgan.training.history import SEEN, History, first_missing, last_on_disk
from cgan.training.panels import best_of, panel_name

Level = Literal["INFO", "WARN", "ERROR"]


class PatientWandb(WandbLogger):
    """A WandbLogger whose failures never end or delay a training: the first is reported, and metrics.csv goes on.

    All that is logged at one number of images seen becomes one row of W&B's history, whose step is that number, sent
    when the next row begins or by flush(). catch_up() makes a resumed training go on where W&B's history ends.
    """

    failed = False

    def __init__(self, report: Report = silent, **settings) -> None:
        import wandb

        super().__init__(**settings)
        self.is_own, self.offline = wandb.run is None, bool(settings.get("offline"))
        self.report, self.history = report, History()
        self.defined: set[str] = set()  # metrics with a best value in the summary

    # ------------------------------------------------------------------------------------------ Lightning's methods

    @rank_zero_only
    def log_metrics(self, metrics: Mapping, step: int | None = None) -> None:
        """Logs metrics, images or tables under the names of panel_name; a failure is reported and ends nothing."""
        self.attempt(self.add, metrics, step)

    def log_image(self, *args, **kwargs) -> None:
        """Logs images; a failure is reported and ends nothing."""
        self.attempt(super().log_image, *args, **kwargs)

    def log_table(self, *args, **kwargs) -> None:
        """Logs a table; a failure is reported and ends nothing."""
        self.attempt(super().log_table, *args, **kwargs)

    @rank_zero_only
    def finalize(self, *args, **kwargs) -> None:
        """Ends one fit, after which more may be logged: finish() sends the row that waits. A failure is reported."""
        self.attempt(super().finalize, *args, **kwargs)

    # ------------------------------------------------------------------------------------------ more than Lightning's

    def describe(self, settings: dict) -> None:
        """Logs all settings, and makes images seen the axis of all charts."""
        self.log_hyperparams(settings)
        self.experiment.define_metric(SEEN)
        self.experiment.define_metric("*", step_metric=SEEN, step_sync=True)

    def catch_up(self, rows: Sequence[Mapping[str, float]], num_images: int) -> None:
        """Sends what W&B lacks of a run that goes on after num_images, and leaves out what it has already.

        rows: those of metrics.csv, up to num_images.
        """
        last = self.experiment.starting_step - 1  # by the server
        if self.offline:
            last = last_on_disk(Path(self.save_dir or ".") / "wandb", self.experiment.id)
        self.history = History(first_missing(last, num_images))
        for row in rows:
            if row.get(SEEN, 0) > last:
                values = {name: value for name, value in row.items() if name != "step"}
                self.add(values, int(row["step"]) if "step" in row else None)

    def flush(self) -> None:
        """Sends the row that waits; a failure is reported and ends nothing."""
        self.attempt(lambda: self.send(self.history.take()))

    def alert(self, title: str, text: str, level: Level = "INFO") -> None:
        """Sends an alert, which W&B passes on by mail or chat; a failure is reported and ends nothing."""
        self.attempt(lambda: self.experiment.alert(title, text, level=level))

    def log_model(self, weights: Path, aliases: list[str], metadata: dict) -> None:
        """Logs a file of weights as a version of the run's model; a failure is reported and ends nothing."""
        self.attempt(self.add_model, weights, aliases, metadata)

    def finish(self, status: int = 0) -> None:
        """Ends the run, so that a later training of this process has its own; a failure is reported.

        A run that the user had begun before, and that Lightning has joined, goes on.
        """
        self.flush()
        if self.is_own:
            self.attempt(lambda: self.experiment.finish(exit_code=status))

    # ------------------------------------------------------------------------------------------ how

    def add(self, metrics: Mapping, step: int | None) -> None:
        """Add metrics to the row of their images_seen, and send the row before."""
        row = {panel_name(name): value for name, value in metrics.items()}
        self.send(self.history.add(row if step is None else {**row, "train/step": step}))

    def send(self, row: dict) -> None:
        """Send a row, unless it is empty; metrics that have a best value get it into the summary."""
        if not row:
            return
        for name in row.keys() - self.defined:
            best = best_of(name) if name.startswith("eval/") else None
            if best is not None:
                self.experiment.define_metric(name, step_metric=SEEN, summary=best)
            self.defined.add(name)
        self.experiment.log(row, step=max(row[SEEN], self.experiment.step), commit=True)

    def add_model(self, weights: Path, aliases: list[str], metadata: dict) -> None:
        """Log a file of weights as an artifact, with a copy of it beside an offline run."""
        import wandb

        artifact = wandb.Artifact(f"model-{self.experiment.id}", type="model", metadata=metadata)
        artifact.add_file(str(weights), name="model.safetensors")
        self.experiment.log_artifact(artifact, aliases=aliases)

    def attempt(self, act: Callable, *args, **kwargs) -> None:
        """Call act, unless an earlier call has failed; its error is reported."""
        if self.failed:
            return
        try:
            act(*args, **kwargs)
        except Exception as error:
            self.failed = True
            self.report(f"W&B has failed ({type(error).__name__}: {str(error)[:200]}); metrics.csv goes on")
