"""What the tests of the manifest's verbs share: a small run of the whole system."""

import json
from pathlib import Path
from typing import Any

from consumers import programs
from consumers.inputs import Inputs
from consumers.settings import Settings

MODEL = {"dim": 8, "context": 8, "half_lives": [4], "first_epochs": 1, "epochs": 1}
LIMIT, EVERY, BATCH = 2_600, 800, 200


def settings(state: Path, **more: Any) -> Settings:
    given = {"finetune_every": EVERY, "batch": BATCH, "threads": 1, "model": json.dumps(MODEL)}
    return Settings.model_validate({"state": state, **given, **more})


def run(state: Path, inputs: Inputs | None = None, **more: Any) -> Settings:
    """Everything in one process over the simulator or files, into the embedded index."""
    made = settings(state, **more)
    assert programs.run(made, inputs or Inputs(limit=LIMIT), quiet=True) == 0
    return made


def told(capsys: Any) -> Any:
    return json.loads(capsys.readouterr().out)
