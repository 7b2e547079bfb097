// State of the pose editor, its text, and how figures are drawn into the SVG. What stands above: `SKELETON`, `PRESETS`, kinematics.

const svg = element.querySelector(".pe-canvas");
const said = element.querySelector(".pe-said");
const button = (name) => element.querySelector(`[data-do=${name}]`);
const keepLengths = element.querySelector(".pe-keep");
const opacity = element.querySelector(".pe-opacity");
const presets = element.querySelector(".pe-presets");

const HIT = 14; // half of the side of what can be hit, in pixels of the screen
const LIVE_MS = 80; // between two commits of one drag
const LATE_MS = 1500; // a change is told after so long though its live picture is still missing
const HISTORY = 200;
const HANDLES = {
  scale: { label: "Scale the figure", cursor: "nwse-resize", glyph: "M-3.5-3.5 3.5 3.5M-3.5-.5v-3h3M3.5.5v3h-3" },
  turn: { label: "Turn the figure", cursor: "grab", glyph: "M3-2A3.7 3.7 0 1 0 3.5 1.5M3.6-4.4V-1.6H.8" },
  move: { label: "Move the figure", cursor: "move", glyph: "M-4.6 0H4.6M0-4.6V4.6M-3.4-1.2-4.6 0-3.4 1.2M3.4-1.2 4.6 0 3.4 1.2M-1.2-3.4 0-4.6 1.2-3.4M-1.2 3.4 0 4.6 1.2 3.4" },
};
const FIRST = "Drag a joint. A double click hides it.";
const STANDING = PRESETS.Standing;

let size = [256, 256];
let people = [];
let chosen = { person: 0, joint: null };
let view = null; // the visible part of the picture: x, y, width, height
let past = []; // states: the text and the people it stands for
let now = -1;
let drag = null;
let sent = 0;
const fingers = new Map();

// Text of the value and back

const round = (number) => Math.round(number * 1000) / 1000;
const flat = (points) => (points || []).flatMap(([x, y, confidence]) => {
  const inside = x >= 0 && y >= 0 && round(x) < size[0] && round(y) < size[1];
  const near = (number, limit) => round(Math.min(Math.max(number, -3 * limit), 4 * limit));
  return [near(x, size[0]), near(y, size[1]), inside ? round(confidence) : 0];
});

const written = () => JSON.stringify({
  version: 1.3,
  people: people.map((person) => ({
    pose_keypoints_2d: flat(person.body),
    face_keypoints_2d: flat(person.face),
    hand_left_keypoints_2d: flat(person.left),
    hand_right_keypoints_2d: flat(person.right),
  })),
  canvas_width: size[0],
  canvas_height: size[1],
});

const triples = (values) => {
  if (!values || !values.length) return null;
  return Array.from({ length: values.length / 3 }, (_, index) => values.slice(3 * index, 3 * index + 3));
};

const read = (text) => {
  const pose = JSON.parse(text);
  size = [pose.canvas_width, pose.canvas_height];
  people = pose.people.map((row) => ({
    body: triples(row.pose_keypoints_2d),
    left: triples(row.hand_left_keypoints_2d),
    right: triples(row.hand_right_keypoints_2d),
    face: triples(row.face_keypoints_2d),
  }));
};

// Drawing

const make = (name, attributes, parent) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  parent.append(made);
  return made;
};

const pixel = () => {
  const matrix = svg.getScreenCTM();
  return matrix && matrix.a ? 1 / matrix.a : view.width / 400;
};

let parts = null;

const build = () => {
  const focused = svg.contains(document.activeElement) ? { ...document.activeElement.dataset } : null;
  svg.replaceChildren();
  parts = { photo: make("image", { x: 0, y: 0, width: size[0], height: size[1], preserveAspectRatio: "none" }, svg), people: [] };
  parts.frame = make("rect", { x: 0, y: 0, width: size[0], height: size[1], fill: "none", stroke: "#555" }, svg);
  people.forEach((person, index) => {
    const group = make("g", { "data-person": index }, svg);
    const limbs = SKELETON.limbs.map((_, limb) => make("line", { stroke: SKELETON.colours[limb], "stroke-linecap": "round", opacity: 0.6 }, group));
    const hands = ["left", "right"].filter((side) => person[side]).map((side) => ({
      side, bones: SKELETON.handLimbs.map((bone, finger) => make("line", { stroke: `hsl(${18 * finger} 100% 50%)` }, group)),
      dots: person[side].map(() => make("circle", { fill: "#00f" }, group)),
    }));
    const face = (person.face || []).map(() => make("circle", { fill: "#fff" }, group));
    const dots = person.body.map((_, joint) => make("circle", { fill: SKELETON.colours[joint], "data-joint": joint, role: "button" }, group));
    dots.forEach((dot, joint) => dot.addEventListener("focus", () => { if (!drag) choose(index, joint); }));
    parts.people.push({ limbs, hands, face, dots });
  });
  parts.box = make("rect", { fill: "none", stroke: "#9aa", "stroke-dasharray": "4 4", "pointer-events": "none" }, svg);
  parts.handles = {};
  parts.glyphs = {};
  for (const [name, { label, glyph }] of Object.entries(HANDLES)) {
    parts.handles[name] = make("circle", { fill: "#222", stroke: "#dde", "data-handle": name, tabindex: 0, role: "button", "aria-label": label }, svg);
    make("title", {}, parts.handles[name]).textContent = label;
    parts.glyphs[name] = make("path", { class: "pe-glyph", d: glyph }, svg);
  }
  if (!focused) return;
  const person = parts.people[Math.min(chosen.person, people.length - 1)];
  const again = focused.handle ? parts.handles[focused.handle] : person && person.dots[focused.joint];
  if (again) { again.setAttribute("tabindex", 0); again.focus({ preventScroll: true }); } // keys reach the editor as before
};

const line = (shape, a, b, width) => {
  const shown = a[2] > 0 && b[2] > 0;
  for (const [key, value] of Object.entries({ x1: a[0], y1: a[1], x2: b[0], y2: b[1], "stroke-width": width, visibility: shown ? "visible" : "hidden" })) shape.setAttribute(key, value);
};

const dot = (shape, point, radius) => {
  shape.setAttribute("cx", point[0]);
  shape.setAttribute("cy", point[1]);
  shape.setAttribute("r", radius);
};

// Handles stay in sight where a figure reaches the edge of the view.
const handlePlaces = (box, unit) => {
  const inView = ([x, y]) => [
    Math.min(Math.max(x, view.x + 11 * unit), view.x + view.width - 11 * unit), Math.min(Math.max(y, view.y + 11 * unit), view.y + view.height - 11 * unit),
  ];
  return {
    scale: inView([box.right + 12 * unit, box.bottom + 12 * unit]),
    turn: inView([(box.left + box.right) / 2, box.top - 26 * unit]),
    move: inView([box.left - 12 * unit, box.top - 12 * unit]),
  };
};

const drifts = () => {
  try { return JSON.parse(props.drift || "[]"); } catch { return []; }
};

const paint = () => {
  if (!parts || parts.people.length !== people.length) build();
  svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`);
  const unit = pixel();
  const bone = (8 * Math.min(...size)) / 512;
  const drift = drifts();
  people.forEach((person, index) => {
    const { limbs, hands, face, dots } = parts.people[index];
    SKELETON.limbs.forEach(([a, b], limb) => line(limbs[limb], person.body[a], person.body[b], bone));
    for (const hand of hands) {
      SKELETON.handLimbs.forEach(([a, b], finger) => line(hand.bones[finger], person[hand.side][a], person[hand.side][b], bone / 4));
      hand.dots.forEach((shape, point) => { dot(shape, person[hand.side][point], bone / 3); shape.style.visibility = person[hand.side][point][2] > 0 ? "visible" : "hidden"; });
    }
    face.forEach((shape, point) => dot(shape, person.face[point], bone / 4));
    dots.forEach((shape, joint) => {
      const [x, y, confidence] = person.body[joint];
      const placed = confidence > 0 || x || y;
      const held = chosen.person === index && chosen.joint === joint;
      const off = (drift[index] || [])[joint];
      dot(shape, [x, y], (held ? 7 : 5) * unit);
      shape.setAttribute("fill", confidence > 0 ? SKELETON.colours[joint] : "#101010");
      shape.setAttribute("stroke", held ? "#fff" : off > 0.1 ? "#ff2d2d" : confidence > 0 ? "#000" : SKELETON.colours[joint]);
      shape.setAttribute("stroke-width", (held ? 2 : off > 0.1 ? 4 : 1) * unit);
      shape.style.filter = off > 0.1 ? "drop-shadow(0 0 6px #ff2d2d)" : "";
      shape.style.display = placed ? "" : "none";
      shape.setAttribute("tabindex", index === chosen.person ? 0 : -1);
      shape.setAttribute("aria-label", `${SKELETON.joints[joint]} of figure ${index + 1}${confidence > 0 ? "" : ", hidden"}`);
      shape.setAttribute("aria-pressed", held);
    });
  });
  const person = people[chosen.person];
  for (const shape of [parts.box, ...Object.values(parts.handles), ...Object.values(parts.glyphs)]) shape.style.display = person ? "" : "none";
  if (person) {
    const box = boxOf(person);
    const pad = 8 * unit;
    for (const [key, value] of Object.entries({ x: box.left - pad, y: box.top - pad, width: box.right - box.left + 2 * pad, height: box.bottom - box.top + 2 * pad, "stroke-width": unit })) parts.box.setAttribute(key, value);
    for (const [name, place] of Object.entries(handlePlaces(box, unit))) {
      dot(parts.handles[name], place, 9 * unit);
      parts.handles[name].setAttribute("stroke-width", 1.5 * unit);
      parts.glyphs[name].setAttribute("transform", `translate(${place[0]} ${place[1]}) scale(${unit})`);
      parts.glyphs[name].setAttribute("stroke-width", 1.2);
    }
  }
  const photo = !props.photo || props.photo.startsWith("data:") ? props.photo : document.querySelector(props.photo)?.src;
  if (photo) parts.photo.setAttribute("href", photo); else parts.photo.removeAttribute("href");
  parts.photo.setAttribute("opacity", opacity.value);
  button("undo").disabled = now <= 0;
  button("redo").disabled = now >= past.length - 1;
  button("remove").disabled = people.length < 2;
  for (const name of ["copy", "mirror", "all"]) button(name).disabled = !person;
  button("joint").disabled = !person || chosen.joint === null;
  const wording = person && chosen.joint !== null && !(person.body[chosen.joint][2] > 0) ? "Show joint" : "Hide joint";
  if (button("joint").dataset.says !== wording) { button("joint").dataset.says = wording; button("joint").textContent = wording; }
};
