"""Event handlers of the train tab: conditions for approval, and starting, following, stopping and resuming a training."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from controlnext.training.config import TrainingError
from controlnext.training.data.rows import BadRow
from controlnext.ui.image.events import LIVE
from controlnext.ui.shared import PRIVATE, Data, Updates, note_html, reported_errors, served, waiting_html
from controlnext.ui.train.form import FIELDS, NO_START, OWN, config_of, defaults, preset, safe_name, starts
from controlnext.ui.train.parts import curves_html, facts_html, frames_html, looked_html, samples_html, status_html
from controlnext.ui.train.pictures import LEAST, look_over, put_together, rows_of
from controlnext.ui.train.tab import START, TrainTab, learner_info

if TYPE_CHECKING:
    from controlnext.studio.studio import Studio
    from controlnext.training.config import TrainConfig
    from controlnext.training.runs.trainings import Trainings
    from controlnext.ui.shared import Update


PICTURES = "pictures"
"""Folder of a training's uploaded pictures."""

ANY_NUMBER = 1_000_000
"""Pictures that may be skipped: they were named before it began, and are named while it learns."""

REPORT_SECONDS = 0.5


class TrainEvents:
    """The handlers of pictures and of a training."""

    def __init__(self, tab: TrainTab, studio: Studio, trainings: Trainings) -> None:
        """Remember the parts; `wire` connects them."""
        self.tab, self.studio, self.trainings = tab, studio, trainings

    def wire(self, page: gr.Blocks, opened: gr.Tab) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the tab.

        Args:
            page: whose loading shows the training at work.
            opened: the tab itself; opening it does so, too.
        """
        tab = self.tab
        typed = {tab.caption, tab.own_kind} | ({tab.folder} if tab.folder is not None else set())
        changes = [part.change for part in tab.picture_inputs() - typed]
        changes += [event for part in typed for event in (part.submit, part.blur)]
        gr.on(
            changes, self.look, tab.picture_inputs(), [tab.samples, tab.looked],
            trigger_mode="always_last", **LIVE, **PRIVATE,
        )  # fmt: skip
        tab.kind.change(
            self.choose_kind, tab.kind, [tab.own_kind, *(panel.group for panel in tab.panels.values())], queue=False, **PRIVATE
        )  # fmt: skip
        tab.family.input(
            self.choose_family, tab.family, [tab.family, tab.start, tab.minutes, *tab.fields.values()], queue=False, **PRIVATE
        )  # fmt: skip
        outputs = self.outputs()
        tab.train.click(self.begin, tab.inputs() | {tab.shown}, outputs, trigger_mode="once", **PRIVATE)
        tab.resume.click(self.resume, [tab.shown, tab.minutes], outputs, trigger_mode="once", **PRIVATE)
        tab.stop.click(self.stop, tab.shown, [tab.stop, tab.progress], queue=False, **PRIVATE)
        tab.run.input(self.choose, tab.run, outputs, queue=False, **PRIVATE)
        tab.place.input(
            self.show_place, [tab.shown, tab.place], tab.drawn, queue=False, trigger_mode="always_last", **PRIVATE
        )
        tab.timer.tick(self.tick, [tab.shown, tab.seen, tab.place], outputs, queue=False, **PRIVATE)
        page.load(self.opened, tab.shown, outputs, queue=False, **PRIVATE)
        opened.select(self.come_back, tab.shown, outputs, queue=False, **PRIVATE)

    def outputs(self) -> list[gr.components.Component]:
        """Return everything that shows a training."""
        tab = self.tab
        return [
            tab.train, tab.stop, tab.run, tab.progress, tab.meanwhile, tab.empty, tab.facts, tab.curves, tab.place, tab.drawn,
            tab.resume, tab.use, tab.report, tab.adapter, tab.used, tab.shown, tab.seen, tab.timer,
        ]  # fmt: skip

    # Pictures and conditions

    def look(self, data: Data) -> Iterator[Updates]:
        """Show the first pictures with their conditions, and what cannot be used."""
        tab, reported = self.tab, time.monotonic()
        try:
            with reported_errors(), tempfile.TemporaryDirectory(prefix="pictures-") as place:
                folder, uploads = self._folder(data), data[tab.files] or []
                if folder is None and not uploads:
                    yield {tab.samples: "", tab.looked: note_html(START, "quiet")}
                    return
                left_out: list[BadRow] = []
                if folder is None:
                    folder = Path(place)
                    left_out = put_together(uploads, folder, linked=True)
                config = self._config(data, folder)
                rows, bad = rows_of(config)
                for looked in look_over(self.studio.annotators, rows, config):
                    if time.monotonic() - reported > REPORT_SECONDS:
                        reported = time.monotonic()
                        yield {tab.looked: looked_html(looked, [], final=False)}
                yield {
                    tab.samples: samples_html(looked.pairs),
                    tab.looked: looked_html(looked, [*left_out, *bad], final=True),
                }
        except gr.Error as error:  # shown next to the pictures, since it may come with every change
            yield {tab.samples: "", tab.looked: f"<p class='cnx-note warn'>{error.message}</p>"}

    def choose_kind(self, kind: str) -> list[Any]:
        """Show the settings of the chosen annotator alone, or the name of a condition of one's own."""
        return [gr.update(visible=kind == OWN), *(gr.update(visible=name == kind) for name in self.tab.panels)]

    def choose_family(self, family: str) -> list[Any]:
        """Put everything that depends on the base model to its own values."""
        with reported_errors():
            rows, values = self.studio.catalogue.models(), defaults(family)
            choices, wanted = starts(rows, family), preset(family).trainable.start
            info = learner_info(rows, family)
        return [
            gr.update(info=info),
            gr.update(choices=choices, value=wanted if wanted in choices else NO_START),
            values["minutes"] or 0,
            *(values[name] for name in self.tab.fields),
        ]

    # A training

    def begin(self, data: Data) -> Iterator[Updates]:
        """Start a training with what the page shows; where one is at work already, show that one."""
        tab = self.tab
        try:
            with reported_errors():
                yield {
                    tab.train: gr.update(value="Starting …", interactive=False),
                    tab.progress: waiting_html("Starting"),
                }
                name = self._begin(data)
        except gr.Error:
            name = self.trainings.running() or data.get(tab.shown)
            yield self.view(name) if name else {
                tab.train: gr.update(value=tab.train.value, interactive=True), tab.progress: "",
            }  # fmt: skip
            raise
        yield self.view(name)

    def _begin(self, data: Data) -> str:
        tab, trainings = self.tab, self.trainings
        if (running := trainings.running()) is not None:
            raise TrainingError(f"The training {running} is at work, and there is one at a time: stop it first.")
        folder, uploads = self._folder(data), data[tab.files] or []
        if folder is None and not uploads:
            raise TrainingError("There are no pictures to learn from yet: add some first.")
        given = safe_name(data[tab.name])
        config = self._config(data, folder or Path(PICTURES), filled_in=False)
        name = given or trainings.free_name(safe_name(config.output.name))
        own = folder is None
        place = trainings.run(name).path / PICTURES if own else folder
        data_config = config.data.model_copy(update={"folder": place})
        config = config.model_copy(update={"output": Path(name), "data": data_config})

        def prepare(path: Path) -> None:
            if own:
                put_together(uploads, path / PICTURES)
            count = len(rows_of(config)[0])
            if count < LEAST:
                raise TrainingError(f"There are {count} pictures, and at least {LEAST} are needed: add some more.")

        return trainings.start(config, prepare)

    def resume(self, name: str, minutes: float | None) -> Iterator[Updates]:
        """Resume the training that is shown."""
        tab = self.tab
        yield {tab.resume: gr.update(interactive=False), tab.progress: waiting_html("Starting")}
        try:
            with reported_errors():
                self.trainings.resume(name, minutes or None)
        except gr.Error:
            yield self.view(name)
            raise
        yield self.view(name)

    def stop(self, name: str) -> list[Any]:
        """Ask the training to save and end; the timer shows when it has."""
        with reported_errors():
            self.trainings.stop(name)
        return [gr.update(interactive=False), waiting_html("Saving and stopping after this step")]

    # What is shown

    def opened(self, name: str) -> Updates:
        """Show the training at work, else the one that was shown, else the newest."""
        with reported_errors():
            names = self.trainings.names()
            name = self.trainings.running() or (name if name in names else next(iter(names), ""))
            return self.view(name) if name else {self.tab.shown: ""}

    def come_back(self, name: str) -> Updates:
        """Show what other pages have begun: the training at work, else their names next to the one that is shown.

        That one stays as it is: this answer may come after a training was begun here.
        """
        with reported_errors():
            if not name or self.trainings.running():
                return self.opened(name)
            return {self.tab.run: gr.update(choices=self.trainings.names())}

    def choose(self, name: str) -> Updates:
        """Show another training."""
        with reported_errors():
            return self.view(name) | {self.tab.used: ""}

    def tick(self, name: str, seen: str, place: float) -> Updates | Update:
        """Show what is new of the training at work; nothing is sent where nothing is."""
        with reported_errors():
            updates = self.news(name, seen, place) if name else {self.tab.timer: gr.Timer(active=False)}
        return updates or gr.skip()

    def view(self, name: str) -> Updates:
        """Show all of a training."""
        names = self.trainings.names()
        everything = {self.tab.run: gr.update(choices=names, value=name, visible=bool(names)), self.tab.shown: name}
        return everything | self.news(name, "", 1e9)

    def news(self, name: str, seen: str, place: float) -> Updates:
        """Return what changed of a training since the page saw it.

        Args:
            name: of the training.
            seen: what the page has, as `tab.seen` keeps it; empty for nothing.
            place: number of the validation whose pictures are shown.
        """
        tab, run, follow = self.tab, self.trainings.run(name), self.trainings.follow(name)
        standing, version = self.trainings.status_of(name), follow.look()
        count, facts = len(follow.validations), f"{standing.state} {standing.alive} {standing.facts.get('time')}"
        key = f"{name}|{facts}|{version}|{count}"
        if key == seen:
            return {}
        _, facts_before, version_before, count_before = seen.split("|") if seen else ("", "", "", "0")
        updates: Updates = {tab.seen: key}
        if facts != facts_before:
            updates |= {tab.progress: status_html(standing)}
        if facts.split()[:2] != facts_before.split()[:2] or not seen:
            updates |= self._buttons(standing.alive)
        if str(version) != version_before or not seen:
            begun = bool(follow.trainable or follow.losses)
            updates |= {
                tab.facts: facts_html(follow), tab.curves: curves_html(follow), tab.empty: gr.update(visible=not begun),
            }  # fmt: skip
        if str(count) != count_before or not seen:
            place = count if place >= int(count_before) else place  # the last place follows the newest
            updates |= {
                tab.place: gr.update(maximum=max(2, count), value=max(1, place), visible=count > 1),
                tab.drawn: frames_html(follow, int(place)),
            }
        if str(count) != count_before or not standing.alive or not seen:
            ready = run.preset.is_file()
            updates |= {tab.use: gr.update(interactive=ready), tab.adapter: gr.update(interactive=ready)}
            if run.report.is_file():
                updates[tab.report] = gr.update(value=served(run.report, tab.report), interactive=True)
            else:
                updates[tab.report] = gr.update(value=None, interactive=False)
        return updates

    def _buttons(self, alive: bool) -> Updates:
        tab = self.tab
        return {
            tab.train: gr.update(value="Training …" if alive else tab.train.value, interactive=not alive),
            tab.stop: gr.update(interactive=alive),
            tab.resume: gr.update(interactive=not alive),
            tab.meanwhile: gr.update(visible=alive),
            tab.timer: gr.Timer(active=alive),
        }

    def show_place(self, name: str, place: float) -> str:
        """Show the fixed pictures of another validation."""
        with reported_errors():
            return frames_html(self.trainings.follow(name), int(place)) if name else ""

    # What the page says

    def _folder(self, data: Data) -> Path | None:
        """The folder that was typed; None where pictures were uploaded."""
        text = "" if self.tab.folder is None else (data[self.tab.folder] or "").strip()
        if text and data[self.tab.files]:
            raise TrainingError("There are uploaded pictures and a folder: take one of them away.")
        return Path(text).expanduser().absolute() if text else None

    def _config(self, data: Data, folder: Path, *, filled_in: bool = True) -> TrainConfig:
        from controlnext.training.start import filled

        tab = self.tab
        kind = data[tab.kind]
        values = {name: data.get(tab.fields[name]) for name in FIELDS if name in tab.fields}
        values |= {
            name: data.get(getattr(tab, name))
            for name in ("family", "kind", "own_kind", "caption", "start", "minutes")
        }
        if filled_in and kind == OWN and not (data[tab.own_kind] or "").strip():
            values["own_kind"] = OWN  # the conditions can be looked at before they have a name
        settings = tab.panels[kind].values(data) if kind in tab.panels else {}
        config = config_of(values, folder, settings=settings)
        config = config.model_copy(update={"data": config.data.model_copy(update={"max_bad_rows": ANY_NUMBER})})
        return filled(config) if filled_in else config
