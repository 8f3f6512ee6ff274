"""Learning curves: log.jsonl of a run as a picture, one panel a figure, a colour a stage.

    python -m relevance.training.curves OUT/log.jsonl --out curves.svg

Figures that were measured with an interval have it as a band. SVG or PNG, by the name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lore_mm.console import command_app, run, say
from lore_mm.errors import InputError, MissingExtraError

__all__ = ["FIGURES", "draw", "main", "points"]

# the figures that are drawn where a log has them, in this order: name → title
FIGURES: Mapping[str, str] = {
    "loss": "loss",
    "token_accuracy": "tokens foretold",
    "reward": "reward",
    "rewards/format": "reward: format",
    "rewards/level": "reward: level",
    "rewards/side": "reward: side",
    "rewards/legs": "reward: legs",
    "rewards/grounded": "reward: grounded",
    "rewards/length": "reward: length",
    "tokens_mean": "tokens of an answer",
    "groups/right": "share of answers that are right",
    "groups/in_window": "share of groups that teach",
    "pass_1": "dev: pass@1",
    "pass_8": "dev: pass@8",
    "acc_4": "dev: acc@4",
    "macro_f1": "dev: macro-F1",
    "tokens": "dev: tokens",
}
_COLUMNS, _WIDTH, _HEIGHT = 3, 240, 130
_DEV = "dev:"
_SMOOTH = 0.25  # weight of a new point in the line through points that jump


def main(
    log: Annotated[Path, typer.Argument(help="log.jsonl of a run.")],
    out: Annotated[Path, typer.Option(help="A .svg or .png file.")] = Path("curves.svg"),
) -> None:
    """Draw the learning curves of a run of `lore sft` or `lore rl`."""
    count = draw(log, out)
    say(f"wrote {out}: {count} figures")


def draw(log: Path, out: Path) -> int:
    """Draw a log; gives the number of figures.

    Raises:
        InputError: the log cannot be read or has nothing to draw, or the name of the picture is not legal.
        MissingExtraError: altair or vl-convert is not installed.
    """
    if out.suffix not in (".svg", ".png"):
        raise InputError(f"{out}: legal: the name of a .svg or .png file")
    found = list(points(_lines(log)))
    if not found:
        raise InputError(f"{log}: has no figure to draw")
    try:
        import altair as alt
        import vl_convert  # noqa: F401  altair writes pictures by it
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "altair", "train") from None
    names = [title for title in FIGURES.values() if any(one["figure"] == title for one in found)]
    panels = [_panel(alt, title, [one for one in found if one["figure"] == title]) for title in names]
    out.parent.mkdir(parents=True, exist_ok=True)
    alt.concat(*panels, columns=_COLUMNS).save(str(out))
    return len(names)


def points(lines: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The points of a log's figures: step counted on over the stages, value, and the interval where there is one.

    `smooth` is the exponential mean of the value within its stage.
    """
    stages = list(dict.fromkeys(str(line["stage"]) for line in lines))
    last = {stage: max(int(line["step"]) for line in lines if line["stage"] == stage) for stage in stages}
    start = {stage: sum(last[one] for one in stages[:i]) for i, stage in enumerate(stages)}
    mean: dict[tuple[str, str], float] = {}
    for line in lines:
        stage = str(line["stage"])
        for name, title in FIGURES.items():
            value = line.get(name)
            among = line.get("intervals") or {}
            measured = title.startswith(_DEV)  # tokens that were trained on have the same name in a log
            if not isinstance(value, int | float) or value != value or (measured and name not in among):
                continue
            before = mean.get((stage, name), value)
            mean[stage, name] = before + _SMOOTH * (value - before)
            low, high = among.get(name, (None, None))
            step = start[stage] + int(line["step"])
            told = {"figure": title, "stage": stage, "step": step, "value": value, "smooth": mean[stage, name]}
            yield told | {"low": low, "high": high}


def _panel(alt: Any, title: str, some: Sequence[Mapping[str, Any]]) -> Any:
    x = alt.X("step:Q", title=None, scale=alt.Scale(zero=False, nice=False))  # a stage of few steps has the whole width
    color = alt.Color("stage:N", sort=None, title="stage")
    base = alt.Chart(alt.Data(values=list(some)), title=title, width=_WIDTH, height=_HEIGHT)
    line = alt.Y("smooth:Q", title=None, scale=alt.Scale(zero=False))
    if any(one["low"] is not None for one in some):
        band = base.mark_errorbar().encode(x=x, y=alt.Y("low:Q", title=None), y2="high:Q", color=color)
        exact = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False))
        return alt.layer(band, base.mark_line(point=True).encode(x=x, y=exact, color=color))
    dots = base.mark_point(size=14, opacity=0.35, filled=True).encode(x=x, y=alt.Y("value:Q", title=None), color=color)
    return alt.layer(dots, base.mark_line(strokeWidth=2).encode(x=x, y=line, color=color))


def _lines(log: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"{log}: {error}") from None


if __name__ == "__main__":
    run(command_app(main, "python -m relevance.training.curves"))
