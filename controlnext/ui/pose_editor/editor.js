// What a person does in the pose editor: pointers, keys, buttons, history. What stands above: the drawing of figures.

const tell = (text) => { said.textContent = text; };

const choose = (person, joint) => {
  chosen = { person, joint };
  if (joint !== null && people[person]) {
    const [x, y, confidence] = people[person].body[joint];
    tell(`${SKELETON.joints[joint]}: ${Math.round(x)}, ${Math.round(y)}${confidence > 0 ? "" : " (hidden)"}`);
  }
  paint();
};

// Values and history. `input` tells every change, `release` every one that is final.

// Under Live the pictures of a drag come by calls of the server, as an event of Gradio's holds a large page up for longer than
// drawing takes. One call at a time; of the poses that wait the newest is drawn.

const target = () => (props.target ? document.querySelector(props.target) : null);
let newest = { picture: "", number: -1 };

// An event that was sent before a drag may show its picture after those of the drag: the newest stays.
const keepNewest = () => {
  const image = target();
  if (!image || Number(image.dataset.number) >= newest.number) return;
  image.src = newest.picture;
  image.dataset.number = newest.number;
};

// On a narrow screen the live picture and its switch are far below the editor, which then shows both as well.
const liveSwitch = () => (props.switches ? document.querySelector(props.switches) : null);
const liveBox = element.querySelector(".pe-live input");
let watched = null;
const seen = element.querySelector(".pe-seen");
liveBox.addEventListener("change", () => {
  liveSwitch()?.click();
  if (liveBox.checked) tell("The first live picture is being drawn …");
});

const mirror = () => {
  const stage = props.stage && !watched ? document.querySelector(props.stage) : null;
  if (stage) {
    watched = new MutationObserver(() => { keepNewest(); mirror(); });
    watched.observe(stage, { childList: true, subtree: true, attributeFilter: ["src"] });
  }
  liveBox.parentElement.hidden = !liveSwitch();
  if (liveSwitch()) liveBox.checked = liveSwitch().checked;
  const image = target();
  if (image && seen.src !== image.src) seen.src = image.src;
  if (image && seen.hidden && liveBox.checked) tell(FIRST);
  seen.hidden = !image || !liveBox.checked;
};

// A recording is kept here with the times of the drag itself: what the server is told comes late on a busy machine.

let recording = false;

const keepMoment = (text, often = 0) => {
  const moments = window.cnxMoments, last = moments?.at(-1), time = performance.now() / 1000;
  if (!recording || moments.length >= MOST_MOMENTS || (last && (last[1] === text || 1000 * (time - last[0]) < often))) return;
  moments.push([time, text]);
};

const record = () => {
  if (Boolean(props.recording) === recording) return;
  recording = Boolean(props.recording);
  if (recording) { window.cnxMoments = []; if (props.value) keepMoment(props.value); }
};

let waiting = null;
let asked = null;
let streaming = null;
let streams = 0;

const answered = async (own) => {
  let shown = true;
  try {
    while (shown && own === streams && waiting !== null) {
      asked = waiting;
      waiting = null;
      const { picture, number } = await server.drag({ channel: props.channel, ...asked });
      shown = Boolean(picture && target());
      if (shown && number > newest.number) { newest = { picture, number }; keepNewest(); }
    }
  } catch { shown = false; }
  if (own !== streams) return;
  streaming = null;
  if (!shown && drag && props.live && performance.now() - sent > LIVE_MS) send(false);
};

// Where a drag ends its last pose does not wait for the one that is being drawn, which the server then stops.
const stream = (pose, final = false) => {
  waiting = { pose, final };
  if (!streaming || (final && !asked.final)) streaming = answered(++streams);
  return streaming;
};

let commits = 0;

const send = async (final) => {
  props.value = past[now] && final ? past[now].text : written();
  sent = performance.now();
  keepMoment(props.value);
  if (final && props.channel) {
    const commit = ++commits;
    await Promise.race([stream(props.value, true), new Promise((go) => setTimeout(go, LATE_MS))]);
    if (commit !== commits) return; // a newer one tells
  }
  trigger("input", {});
  if (final) trigger("release", {});
};

const commit = () => {
  const text = written();
  if (now >= 0 && past[now].text === text) { send(true); return; }
  past = [...past.slice(Math.max(0, now + 2 - HISTORY), now + 1), { text, people: copyOf(people) }];
  now = past.length - 1;
  paint();
  send(true);
};

const travel = (step) => {
  if (!past[now + step]) return;
  now += step;
  people = copyOf(past[now].people);
  chosen = { person: Math.min(chosen.person, people.length - 1), joint: chosen.joint };
  build();
  paint();
  send(true);
};

const change = (person, index = chosen.person) => { people[index] = person; };

// Pointers

const at = (event) => {
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  return [point.x, point.y];
};

const within = ([x, y]) => [Math.min(Math.max(x, 0), size[0] - 0.001), Math.min(Math.max(y, 0), size[1] - 0.001)];

const found = (place) => {
  const far = HIT * pixel();
  let best = null;
  const offer = (candidate, point) => {
    const off = distance(point, place);
    if (off <= far && (!best || off < best.off)) best = { ...candidate, off };
  };
  people.forEach((person, index) => person.body.forEach((point, joint) => { if (point[2] > 0 || point[0] || point[1]) offer({ person: index, joint }, point); }));
  if (!best && view.width < size[0] / 2) {
    people.forEach((person, index) => ["left", "right"].forEach((side) => (person[side] || []).forEach((point, finger) => offer({ person: index, side, finger }, point))));
  }
  if (!best && people[chosen.person]) {
    for (const [name, point] of Object.entries(handlePlaces(boxOf(people[chosen.person]), pixel()))) offer({ person: chosen.person, handle: name }, point);
  }
  return best;
};

const drawn = (start, from, to) => {
  const person = start.people[start.person];
  if (start.joint !== undefined) {
    const joint = person.body[start.joint];
    const target = within([joint[0] + to[0] - from[0], joint[1] + to[1] - from[1]]);
    const moved = pulled(person, start.joint, target, keepLengths.checked);
    if (!(moved.body[start.joint][2] > 0)) moved.body[start.joint][2] = 1;
    return moved;
  }
  if (start.finger !== undefined) {
    const moved = copyOf(person);
    put(moved[start.side][start.finger], within(to));
    return moved;
  }
  if (start.handle === "move") return movedBy(person, between(from, to));
  const centre = centreOf(person);
  const [before, after] = [between(centre, from), between(centre, to)];
  if (start.handle === "turn") return turned(person, centre, Math.atan2(after[1], after[0]) - Math.atan2(before[1], before[0]));
  return turned(person, centre, 0, Math.min(Math.max(distance(centre, to) / Math.max(distance(centre, from), 1), 0.1), 10));
};

const zoom = (factor, [x, y] = [view.x + view.width / 2, view.y + view.height / 2]) => {
  const width = Math.min(Math.max(view.width * factor, size[0] / 16), size[0] * 2);
  const scale = width / view.width;
  view = { x: x - (x - view.x) * scale, y: y - (y - view.y) * scale, width, height: view.height * scale };
  paint();
};

const fit = () => { view = { x: 0, y: 0, width: size[0], height: size[1] }; paint(); };

const pinch = () => {
  const [a, b] = [...fingers.values()];
  return { span: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY), middle: { clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 } };
};

let spaceHeld = false;
svg.addEventListener("pointerdown", (event) => {
  fingers.set(event.pointerId, event);
  svg.setPointerCapture(event.pointerId);
  event.preventDefault();
  if (fingers.size === 2) {
    if (drag && drag.people) people = drag.people;
    drag = { pinch: pinch() };
    paint();
    return;
  }
  const place = at(event);
  const hit = event.button === 0 && !spaceHeld ? found(place) : null;
  svg.style.cursor = "grabbing";
  if (!hit) { drag = { pan: place }; return; }
  if (hit.joint !== undefined || hit.handle) (hit.handle ? parts.handles[hit.handle] : parts.people[hit.person].dots[hit.joint]).focus({ preventScroll: true });
  choose(hit.person, hit.joint === undefined ? null : hit.joint);
  drag = { ...hit, people: copyOf(people), from: place, moved: false };
});

svg.addEventListener("pointermove", (event) => {
  if (fingers.has(event.pointerId)) fingers.set(event.pointerId, event);
  if (drag && drag.pinch && fingers.size === 2) {
    const next = pinch();
    const [before, after] = [at(drag.pinch.middle), at(next.middle)];
    view = { ...view, x: view.x - after[0] + before[0], y: view.y - after[1] + before[1] };
    zoom(drag.pinch.span / Math.max(next.span, 1), before);
    drag = { pinch: next };
  } else if (drag && drag.pan) {
    const place = at(event);
    view = { ...view, x: view.x + drag.pan[0] - place[0], y: view.y + drag.pan[1] - place[1] };
    paint();
  } else if (drag && drag.people) {
    const place = at(event);
    if (!drag.moved && distance(place, drag.from) < pixel()) return;
    drag.moved = true;
    change(drawn(drag, drag.from, place), drag.person);
    choose(drag.person, drag.joint === undefined ? null : drag.joint);
    keepMoment(written(), LIVE_MS);
    if (props.live && props.channel) stream(written()); else if (props.live && performance.now() - sent > LIVE_MS) send(false);
  } else if (!drag) {
    const hit = found(at(event));
    svg.style.cursor = !hit ? "default" : hit.handle ? HANDLES[hit.handle].cursor : "grab";
    element.querySelectorAll(".pe-near").forEach((shape) => shape.classList.remove("pe-near"));
    if (hit) {
      const shape = hit.handle ? parts.handles[hit.handle] : hit.joint !== undefined ? parts.people[hit.person].dots[hit.joint] : null;
      if (shape) { shape.classList.add("pe-near"); shape.setAttribute("r", (hit.handle ? 11 : 8) * pixel()); }
    } else paint();
  }
});

const lift = (event) => {
  fingers.delete(event.pointerId);
  const ended = drag;
  if (!fingers.size) { drag = null; svg.style.cursor = "grab"; }
  if (ended && ended.people && ended.moved) commit();
};
svg.addEventListener("pointerup", lift);
svg.addEventListener("pointercancel", lift);
svg.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && !event.metaKey && !element.contains(document.activeElement)) return;
  event.preventDefault();
  zoom(Math.exp(event.deltaY * 0.002), at(event));
}, { passive: false });
svg.addEventListener("dblclick", (event) => { const hit = found(at(event)); if (hit && hit.joint !== undefined) { choose(hit.person, hit.joint); actions.joint(); } });

// Buttons and keys

const own = () => people[chosen.person];
const actions = {
  undo: () => travel(-1),
  redo: () => travel(1),
  add: () => {
    people.push(figureOf(STANDING, ...size));
    if (people.length > 1) people[people.length - 1] = movedBy(people[people.length - 1], [(people.length % 2 ? -1 : 1) * size[0] * 0.2, 0]);
    build(); choose(people.length - 1, null); commit();
  },
  copy: () => { people.push(movedBy(own(), [size[0] * 0.1, 0])); build(); choose(people.length - 1, null); commit(); },
  mirror: () => { change(mirrored(own())); build(); choose(chosen.person, null); commit(); },
  remove: () => { if (people.length > 1) { people.splice(chosen.person, 1); build(); choose(Math.min(chosen.person, people.length - 1), null); commit(); } },
  joint: () => {
    if (chosen.joint === null) return;
    const person = copyOf(own());
    const point = person.body[chosen.joint];
    if (!(point[2] > 0) && !point[0] && !point[1]) put(point, within(likelyPlace(person, chosen.joint, STANDING)));
    point[2] = point[2] > 0 ? 0 : 1;
    change(person); choose(chosen.person, chosen.joint); commit();
  },
  all: () => {
    const person = copyOf(own());
    person.body.forEach((point, joint) => { if (!(point[2] > 0)) { put(point, within(point[0] || point[1] ? point : likelyPlace(person, joint, STANDING))); point[2] = 1; } });
    change(person); commit();
  },
  in: () => zoom(1 / 1.4),
  out: () => zoom(1.4),
  fit,
  save: () => {
    const text = past[now] ? past[now].text : written();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = "pose.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  },
};

element.querySelectorAll("[data-do]").forEach((shape) => shape.addEventListener("click", () => actions[shape.dataset.do]()));
for (const name of Object.keys(PRESETS)) presets.append(new Option(name, name));
presets.addEventListener("change", () => {
  if (!presets.value) return;
  const made = figureOf(PRESETS[presets.value], ...size);
  const old = own();
  if (old) change(movedBy(made, between(centreOf(made), within(centreOf(old))))); else people.push(made);
  build(); choose(Math.min(chosen.person, people.length - 1), null); commit();
  presets.value = "";
});
opacity.addEventListener("input", paint);

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const onFigure = (key, step) => {
  const centre = centreOf(own());
  if (ARROWS[key]) return movedBy(own(), ARROWS[key].map((part) => part * step));
  if (key === "+" || key === "-") return turned(own(), centre, 0, key === "+" ? 1.05 : 1 / 1.05);
  if (key === "[" || key === "]") return turned(own(), centre, (key === "]" ? 1 : -1) * (Math.PI / 36));
  return null;
};

element.addEventListener("keyup", (event) => { if (event.key === " ") spaceHeld = false; });
element.addEventListener("keydown", (event) => {
  if (/^(input|select)$/i.test(event.target.tagName) && event.target.type !== "checkbox") return;
  const key = event.key;
  const joint = event.target.dataset.joint;
  const step = event.shiftKey ? 10 : 1;
  if ((event.ctrlKey || event.metaKey) && /^[zy]$/i.test(key)) travel(key.toLowerCase() === "y" || event.shiftKey ? 1 : -1);
  else if (joint !== undefined && ARROWS[key]) {
    const point = own().body[joint];
    change(pulled(own(), Number(joint), within([point[0] + step * ARROWS[key][0], point[1] + step * ARROWS[key][1]]), keepLengths.checked));
    choose(chosen.person, Number(joint)); commit();
  } else if (joint !== undefined && ["Delete", "Backspace", "Enter"].includes(key)) actions.joint();
  else if (event.target.dataset.handle && onFigure(key, step)) { change(onFigure(key, step)); paint(); commit(); }
  else if (key === " " && event.target.tagName !== "BUTTON") spaceHeld = true;
  else return;
  event.preventDefault();
  event.stopPropagation();
});

// The value from the server

let shownText = null;
const load = () => {
  const text = props.value || "";
  if (text !== shownText && !drag && (now < 0 || text !== past[now].text)) {
    if (!text) { past = []; now = -1; people = []; } else {
      const before = size.join();
      read(text);
      if (view === null || before !== size.join()) view = { x: 0, y: 0, width: size[0], height: size[1] };
      past = [{ text, people: copyOf(people) }];
      now = 0;
      chosen = { person: 0, joint: null };
    }
    parts = null;
    if (shownText !== null) { trigger("input", {}); trigger("release", {}); }
    shownText = text;
  }
  view = view || { x: 0, y: 0, width: size[0], height: size[1] };
  record();
  mirror();
  paint();
};
watch(Object.keys(props), load);
tell(FIRST);
new ResizeObserver(() => { if (view) paint(); }).observe(svg);
load();
