"""Options of `reel evaluate` about people and the page, and what they do."""

from __future__ import annotations

import os
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from reelwright.errors import UserError
from reelwright.pipelines.cli.app import printable, say
from reelwright.pipelines.cli.option_groups import option_group

if TYPE_CHECKING:
    from reelwright.curation.store import Store
    from reelwright.evaluation.rating.study import Study


@option_group
class PeopleOptions:
    """Rating by people, and the page of an evaluation."""

    heading: ClassVar[str] = "People and pages"

    rate: Annotated[str, typer.Option(metavar="EVALUATION", help="Serve pages on which people rate its videos.")] = ""
    kind: Annotated[str, typer.Option(metavar="mos|gsb", help="1 to 5 of each video, or pairs: which is better.")] = (
        "mos"
    )
    raters: Annotated[str, typer.Option(help="Names with commas: plans a study; without, its newest goes on.")] = ""
    dimensions: Annotated[str, typer.Option(help="What is asked, with commas; default: by kind and task.")] = ""
    rated_prompts: Annotated[int | None, typer.Option(min=1, help="So many prompts, drawn by --seed.")] = None
    repeats: Annotated[float, typer.Option(min=0, max=0.5, help="Share of items that come back to a rater.")] = 0.05
    checks: Annotated[float, typer.Option(min=0, max=0.5, help="Attention checks per item of a rater.")] = 0.05
    rating_study: Annotated[str, typer.Option(help="Go on with the study of this id.")] = ""
    host: Annotated[str, typer.Option(help="Address of the pages; any but loopback gives each rater a link.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8090
    key_env: Annotated[
        str, typer.Option(help="Environment variable with the secret of raters' links, which then stay the same.")
    ] = ""
    send: Annotated[Path | None, typer.Option(help="Write the study as a page to send out, and serve nothing.")] = None
    beside: Annotated[bool, typer.Option("--beside", help="With --send: videos in a folder beside the page.")] = False
    ratings: Annotated[
        list[Path] | None, typer.Option(help="Take in a file of answers that a sent page saved; repeatable.")
    ] = None
    report: Annotated[str, typer.Option(metavar="EVALUATION", help="Write it as one HTML page.")] = ""
    out: Annotated[Path, typer.Option("--out", "-o", help="File of --report.")] = Path("evaluation.html")
    where: Annotated[str | None, typer.Option(help="With --report: a SQL condition on generations.")] = None
    shown: Annotated[int, typer.Option(min=0, help="With --report: prompts whose videos are shown.")] = 12

    def is_asked(self) -> bool:
        """Whether any of these was asked for."""
        return bool(self.rate or self.report or self.ratings)

    def do(self, store: Store, seed: int) -> None:
        """Take in answers, then serve or write the study, or write the page."""
        for path in self.ratings or []:
            _take_in(store, path)
        if self.rate:
            self._rate(store, seed)
        if self.report:
            from reelwright.curation.store.evaluations import find_evaluation
            from reelwright.pipelines.evaluate.report.page import write_page

            found = find_evaluation(store, self.report)
            say(f"page: {write_page(store, found, self.out, where=self.where, prompts=self.shown)}")

    def _rate(self, store: Store, seed: int) -> None:
        from reelwright.pipelines.evaluate.rating.pages import write_static
        from reelwright.pipelines.evaluate.rating.studies import Answers

        study = self._study(store, seed)
        if self.send is None:
            _serve(store, study, self.host, self.port, self.key_env)
            return
        page = write_static(store, study, self.send, Answers(store, study).all(), beside=self.beside)
        say(f"page: {page}{', with its folder of videos' if self.beside else ''}")
        say("each rater chooses a name, answers, saves a file and sends it back:  reel evaluate --ratings FILE")

    def _study(self, store: Store, seed: int) -> Study:
        from reelwright.curation.store.evaluations import find_evaluation
        from reelwright.evaluation.rating.study import Settings
        from reelwright.pipelines.evaluate.rating.studies import find_study, make_study

        evaluation = find_evaluation(store, self.rate)
        if not self.raters:
            study = find_study(store, self.rating_study, evaluation)
        else:
            if self.rating_study:
                raise UserError("--raters plans a study and --rating-study goes on with one; leave one out")
            if self.kind not in ("mos", "gsb"):
                raise UserError(f"--kind is mos or gsb, not {self.kind!r}")
            dimensions, raters = (
                tuple(one.strip() for one in text.split(",") if one.strip()) for text in (self.dimensions, self.raters)
            )
            settings = Settings(
                "gsb" if self.kind == "gsb" else "mos", dimensions, raters, seed=seed, repeats=self.repeats,
                checks=self.checks,
            )  # fmt: skip
            study = make_study(store, evaluation, settings, self.rated_prompts)
        per_item = min(study.settings.per_item, len(study.settings.raters))
        say(f"study {study.study_id}: {len(study.items):,} {'pairs' if study.settings.kind == 'gsb' else 'videos'}, "
            f"{per_item} raters each, in {', '.join(study.settings.dimensions)}")  # fmt: skip
        spare = len(study.settings.raters) - per_item
        if (lacking := study.settings.per_item + study.settings.extra - len(study.settings.raters)) > 0:
            say(f"where they disagree, {spare or 'no'} more can be asked; name {lacking} more raters for that")
        return study


def _serve(store: Store, study: Study, host: str, port: int, key_env: str) -> None:
    from reelwright.curation.store.schema import table_of
    from reelwright.evaluation.rating.answers import progress
    from reelwright.pipelines.runtime.serving.packages import refuse_without_packages

    refuse_without_packages("reel evaluate --rate")
    from reelwright.pipelines.evaluate.rating.desk import RatingDesk
    from reelwright.pipelines.evaluate.rating.routes import links, make_rating_app
    from reelwright.pipelines.runtime.serving.guard import LOOPBACK
    from reelwright.pipelines.runtime.serving.run import for_anybody, serve

    key = secret_of(key_env)
    if not key and host not in LOOPBACK:
        key = token_hex(16)
    desk = RatingDesk(store, study, lambda line: say(printable(line)))
    say("answers are in the store once a page goes on; the same command goes on with them")
    holders = links(key, study) if key else for_anybody("")
    try:
        serve(make_rating_app(desk), host=host, port=port, holders=holders, say=lambda line: say(printable(line)))
    except KeyboardInterrupt:
        say("")
    for rater, done in progress(study, desk.answers.all()).items():
        checks = f", attention checks passed: {done.passed:,} of {done.checks:,}" if done.checks else ""
        say(f"{printable(rater)}: {done.answered:,} of {done.tasks:,}{checks}")
    store.merge_small_files(table_of("ratings").lock)


def secret_of(key_env: str) -> str:
    """Return the secret that an environment variable holds; empty where none is named.

    Raises:
        UserError: it holds nothing.
    """
    key = os.environ.get(key_env, "") if key_env else ""
    if key_env and not key:
        raise UserError(f"--key-env names {key_env!r}, which holds no secret; export it")
    return key


def _take_in(store: Store, path: Path) -> None:
    from reelwright.pipelines.evaluate.rating.studies import take_in

    study, saved = take_in(store, path)
    say(f"{path}: {saved.new:,} new answers, {saved.changed:,} changed, {saved.alike:,} there before; study "
        f"{study.study_id}")  # fmt: skip
