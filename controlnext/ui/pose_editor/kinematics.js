// Kinematics of a figure: pure functions on points [x, y, confidence]; pixels, y downwards. `SKELETON` stands above this text.

const NECK = 1;
const PARENT = SKELETON.limbs.reduce((parents, [above, below]) => { parents[below] = above; return parents; }, { [NECK]: -1 });
// Ends of arms and legs, with the two joints above each.
const CHAINS = { 4: [2, 3], 7: [5, 6], 10: [8, 9], 13: [11, 12] };
const MIRRORED = [0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16];
const TINY = 1e-9;

const copyOf = (person) => JSON.parse(JSON.stringify(person));
const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
const cross = (a, b) => a[0] * b[1] - a[1] * b[0];
const between = (a, b) => [b[0] - a[0], b[1] - a[1]];

// Two-bone inverse kinematics: the middle and the end of a chain whose end is pulled to a target. Lengths and the side of the bend stay.
const twoBone = (root, middle, end, target) => {
  const upper = distance(root, middle);
  const lower = distance(middle, end);
  const wanted = distance(root, target);
  const reach = Math.min(Math.max(wanted, Math.abs(upper - lower)), upper + lower);
  const [from, span] = wanted > TINY ? [between(root, target), wanted] : [between(root, end), distance(root, end) || 1];
  const [x, y] = [from[0] / span, from[1] / span];
  const side = cross(between(root, end), between(root, middle)) < 0 ? -1 : 1;
  const along = reach > TINY ? (upper * upper - lower * lower + reach * reach) / (2 * reach) : 0;
  const across = side * Math.sqrt(Math.max(0, upper * upper - along * along));
  return {
    middle: [root[0] + x * along - y * across, root[1] + y * along + x * across],
    end: [root[0] + x * reach, root[1] + y * reach],
  };
};

// The point that lies in the direction of the target, at the old distance from its parent.
const onCircle = (centre, point, target) => {
  const length = distance(centre, point);
  const span = distance(centre, target);
  if (span < TINY) return [point[0], point[1]];
  return [centre[0] + ((target[0] - centre[0]) * length) / span, centre[1] + ((target[1] - centre[1]) * length) / span];
};

const descendants = (joint) => {
  const found = [joint];
  for (const above of found) for (const [a, b] of SKELETON.limbs) if (a === above) found.push(b);
  return found.slice(1);
};

const put = (point, place) => { [point[0], point[1]] = place; };
const shift = (point, [dx, dy]) => { point[0] += dx; point[1] += dy; };

// Points that hang on a joint and are no joints themselves: hands on wrists, the face on the nose.
const attached = (person, joint) => ({ 0: person.face, 4: person.right, 7: person.left })[joint] || [];

const turnPoints = (points, centre, angle, scale = 1) => {
  const [c, s] = [Math.cos(angle) * scale, Math.sin(angle) * scale];
  for (const point of points) {
    const [dx, dy] = between(centre, point);
    put(point, [centre[0] + c * dx - s * dy, centre[1] + s * dx + c * dy]);
  }
};

const allPoints = (person) => [person.body, person.left, person.right, person.face].flatMap((points) => points || []);

// A copy of a person with one joint pulled to a target. `keep` keeps the lengths of bones.
const pulled = (person, joint, target, keep) => {
  const moved = copyOf(person);
  const body = moved.body;
  const shown = (index) => index >= 0 && person.body[index][2] > 0;
  const chain = CHAINS[joint];
  if (keep && chain && chain.every(shown)) {
    const [root, middle] = chain;
    const bent = twoBone(body[root], body[middle], body[joint], target);
    const [before, after] = [between(body[middle], body[joint]), between(bent.middle, bent.end)];
    const angle = Math.atan2(after[1], after[0]) - Math.atan2(before[1], before[0]);
    const step = between(body[joint], bent.end);
    put(body[middle], bent.middle);
    put(body[joint], bent.end);
    for (const point of attached(moved, joint)) shift(point, step);
    turnPoints(attached(moved, joint), bent.end, angle);
    return moved;
  }
  if (keep && joint === NECK) {
    const step = between(body[joint], target);
    for (const point of allPoints(moved)) shift(point, step);
    return moved;
  }
  const place = keep && shown(PARENT[joint]) ? onCircle(body[PARENT[joint]], body[joint], target) : target;
  const step = between(body[joint], place);
  const carried = keep ? [joint, ...descendants(joint)] : [joint];
  for (const index of carried) {
    shift(body[index], step);
    for (const point of attached(moved, index)) shift(point, step);
  }
  return moved;
};

// The box around what is shown of a person, or around all of it if nothing is.
const boxOf = (person) => {
  const shown = person.body.filter((point) => point[2] > 0);
  const points = shown.length ? shown : person.body;
  const [xs, ys] = [points.map((point) => point[0]), points.map((point) => point[1])];
  return { left: Math.min(...xs), top: Math.min(...ys), right: Math.max(...xs), bottom: Math.max(...ys) };
};

const centreOf = (person) => {
  const box = boxOf(person);
  return [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
};

const movedBy = (person, step) => {
  const moved = copyOf(person);
  for (const point of allPoints(moved)) shift(point, step);
  return moved;
};

const turned = (person, centre, angle, scale = 1) => {
  const moved = copyOf(person);
  turnPoints(allPoints(moved), centre, angle, scale);
  return moved;
};

// Left and right change places in the picture, and with them their names.
const mirrored = (person) => {
  const moved = copyOf(person);
  const [middle] = centreOf(person);
  for (const point of allPoints(moved)) point[0] = 2 * middle - point[0];
  return { ...moved, body: MIRRORED.map((index) => moved.body[index]), left: moved.right, right: moved.left };
};

// A ready-made figure that fills a share of a picture.
const figureOf = (points, width, height, share = 0.8) => {
  const [xs, ys] = [points.map((point) => point[0]), points.map((point) => point[1])];
  const [across, down] = [Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys)];
  const scale = share * Math.min(width / Math.max(across, 0.4), height / Math.max(down, 0.9));
  const body = points.map(([x, y]) => [width / 2 + scale * x, height / 2 + scale * y, 1]);
  return { body, left: null, right: null, face: null };
};

// Where a joint that nobody has placed belongs: as on the standing figure, as large as this one.
const likelyPlace = (person, joint, standing) => {
  const placed = person.body.map((point, index) => index).filter((index) => person.body[index][2] > 0 && index !== joint);
  if (!placed.length) return person.body[joint].slice(0, 2);
  const anchor = placed.includes(PARENT[joint]) ? PARENT[joint] : placed[0];
  let [own, theirs] = [0, 0];
  for (const a of placed) for (const b of placed) {
    own += distance(person.body[a], person.body[b]);
    theirs += distance(standing[a], standing[b]);
  }
  const scale = theirs > TINY && own > TINY ? own / theirs : 100;
  const [dx, dy] = between(standing[anchor], standing[joint]);
  return [person.body[anchor][0] + scale * dx, person.body[anchor][1] + scale * dy];
};
