// The explorer: a latent plane, two ends to drag, and the geodesic that follows them.
// One module, two hosts: a page of `geodesic explore`, and an anywidget in a notebook.

const TEMPLATE = `
<div class="gx">
<header class="gx-head">
  <h1></h1><p class="gx-about"></p>
  <p class="gx-badge" role="status" aria-live="polite"><i></i><span></span></p>
</header>
<div class="gx-map">
  <canvas class="gx-plane" role="img" aria-label="Map of the latent plane"></canvas>
  <button type="button" class="gx-end" data-end="0">A</button>
  <button type="button" class="gx-end" data-end="1">B</button>
  <div class="gx-tip" hidden><canvas></canvas><span></span></div>
</div>
<section class="gx-side" aria-label="Answer and settings">
  <dl class="gx-figures">
    <div class="gx-large"><dt>length</dt><dd data-figure="length">–</dd></div>
    <div class="gx-large"><dt>of the straight line</dt><dd data-figure="ratio">–</dd></div>
    <div><dt>converged</dt><dd data-figure="converged">–</dd></div>
    <div><dt>resolved</dt><dd data-figure="resolved">–</dd></div>
  </dl>
  <p class="gx-note"></p>
  <div class="gx-strips" role="group" aria-label="Outputs along both paths">
    <figure><figcaption>straight</figcaption><canvas data-strip="straight" role="img"></canvas></figure>
    <figure><figcaption>geodesic</figcaption><canvas data-strip="geodesic" role="img"></canvas></figure>
  </div>
  <div class="gx-choices">
    <label>geometry <select data-choice="geometry"></select></label>
    <label>shading <select data-choice="quantity"></select></label>
    <label>solver <select data-choice="solver"></select></label>
    <label>start <select data-choice="start"></select></label>
  </div>
  <div class="gx-more">
    <label class="gx-check"><input type="checkbox" data-choice="pairs"> all pairs <small></small></label>
    <button type="button" data-do="plane">plane through three points</button>
  </div>
  <div class="gx-exports" role="group" aria-label="Export">
    <span>export</span>
    <button type="button" data-export="npz">.npz</button>
    <button type="button" data-export="png">PNG</button>
    <button type="button" data-export="svg">SVG</button>
    <button type="button" data-export="gif">GIF</button>
  </div>
  <ul class="gx-classes" aria-label="Classes of the data"></ul>
</section>
<p class="gx-say" role="alert"></p>
<p class="gx-hint">Drag the ends, or move them with the arrow keys. A click on a point takes the nearer end there.</p>
</div>`;

const PALE = ["#332288", "#4aa3c7", "#cc6677", "#117733", "#b59a2d", "#aa4499", "#44aa99", "#882255", "#7d7d2b", "#777777"];
const BRIGHT = ["#8f83e0", "#88ccee", "#e58e9b", "#5dbb75", "#ddcc77", "#d17fc4", "#6fd0c0", "#d0679a", "#b9b95a", "#a5a5a5"];
const SIZES = [24, 72]; // places along each side of the shading: first roughly, then finely
const NEAR = 9; // pixels within which a point is meant
const REST = 220; // milliseconds after the last arrow key until ends count as at rest

// --- transports: `ask(fields)` gives the reply, or null where a newer request took its place ------------------------

export function overHttp(base) {
  let number = 0;
  return {
    async ask(fields) {
      const response = await fetch(new URL("ask", base), {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ ...fields, number: ++number }),
      });
      if (response.status === 204) return null;
      if (!response.ok) throw new Error(await response.text());
      const content = await response.arrayBuffer();
      const length = new DataView(content).getUint32(0, true);
      const header = JSON.parse(new TextDecoder().decode(new Uint8Array(content, 4, length)));
      let at = 4 + length;
      return withArrays(header, (bytes) => content.slice(at, (at += bytes)));
    },
    close() {},
  };
}

export function overModel(model) {
  let number = 0;
  const waiting = new Map();
  const hear = (header, buffers) => {
    const answer = waiting.get(header.number);
    if (!answer) return; // of another view of the same widget
    waiting.delete(header.number);
    let k = 0;
    if (header.overtaken) return answer(null);
    answer(withArrays(header, () => { const b = buffers[k++]; return b.buffer.slice(b.byteOffset, b.byteOffset + b.byteLength); }));
  };
  model.on("msg:custom", hear);
  // Views of one model share its messages: their numbers begin at different places.
  number = Math.floor(Math.random() * 1e9);
  return {
    ask: (fields) => new Promise((answer) => {
      waiting.set(++number, answer);
      model.send({ ...fields, number });
    }),
    close: () => model.off("msg:custom", hear),
  };
}

function withArrays(header, next) {
  const kinds = { float32: Float32Array, uint8: Uint8Array, int32: Int32Array };
  for (const [name, type, shape] of header.arrays) {
    const count = shape.reduce((a, b) => a * b, 1);
    const values = new kinds[type](next(count * kinds[type].BYTES_PER_ELEMENT));
    header[name] = { values, shape };
  }
  return header;
}

// --- the explorer ----------------------------------------------------------------------------------------------------

class Explorer {
  constructor(el, transport) {
    this.el = el;
    this.transport = transport;
    this.tab = crypto.getRandomValues(new Uint32Array(2)).join("-");
    this.plane = null; // numbers of three points, or null
    this.picking = null; // numbers of those that were chosen so far, while a plane is chosen
    this.ends = null;
    this.path = null; // of the last answer, with the ends that it was found for
    this.newest = 0; // number of the newest answer that is shown
    this.flying = 0; // requests for a path that are on their way
    this.dragging = -1;
    this.seen = new Map(); // pictures of points
    this.pairs = null;
    this.shade = null;
    this.updates = []; // times of answers, for whoever measures
    el.classList.add("geodesic-explorer");
    el.innerHTML = TEMPLATE;
    this.canvas = this.$(".gx-plane");
    this.buttons = [...el.querySelectorAll(".gx-end")];
    this.listen();
  }

  $(selector) { return this.el.querySelector(selector); }
  choice(name) { return this.$(`[data-choice="${name}"]`); }
  get dark() { return this.el.dataset.theme === "dark"; }
  colour(name) { return getComputedStyle(this.el).getPropertyValue(`--gx-${name}`).trim(); }

  // Fields that every request about the geometry has.
  about() {
    return {
      tab: this.tab, plane: this.plane, geometry: this.choice("geometry").value,
      solver: this.choice("solver").value, start: this.choice("start").value,
    };
  }

  async ask(fields) {
    try {
      const reply = await this.transport.ask(fields);
      if (reply && reply.error) this.say(reply.error);
      return reply && reply.error ? { ...reply, failed: true } : reply;
    } catch (error) {
      this.badge("failed", "disconnected");
      this.say("The explorer does not answer any more: start it again, and open the new address.");
      return { failed: true, gone: true };
    }
  }

  async begin() {
    const scene = await this.ask({ kind: "scene", plane: this.plane, tab: this.tab });
    if (!scene || scene.failed) return false;
    const first = !this.scene;
    this.scene = scene;
    this.bounds = scene.bounds;
    this.ends = scene.ends;
    this.path = this.pairs = this.shade = null;
    if (first) this.label(scene);
    this.$(".gx-about").textContent =
      `d = ${scene.d} · ${scene.points.shape[0].toLocaleString("en")} points` + (scene.d > 2 ? ` · ${scene.axes.join(", ")}` : "");
    this.resize();
    this.follow("resting");
    this.shading();
    this.allPairs();
    return true;
  }

  label(scene) {
    this.$("h1").textContent = scene.title;
    if (scene.fixed) this.$(".gx-hint").textContent = "Drag an end: the pair whose ends are nearest is shown.";
    const words = { geometry: scene.geometries, quantity: scene.shadings, solver: scene.solvers, start: scene.starts };
    for (const [name, options] of Object.entries(words))
    {
      this.choice(name).replaceChildren(...options.map((word) => new Option(word.replaceAll("_", " "), word)));
      this.choice(name).parentElement.hidden = options.length < 2;
    }
    this.$(".gx-check").hidden = !scene.pairs;
    this.$(".gx-check small").textContent = scene.pairs ? `(${scene.pairs})` : "";
    this.$('[data-do="plane"]').hidden = scene.d < 3;
    this.$(".gx-strips").hidden = !scene.pictured;
    this.$('[data-export="gif"]').hidden = !scene.pictured;
    this.classes();
  }

  classes() {
    const colours = this.dark ? BRIGHT : PALE;
    this.$(".gx-classes").replaceChildren(...this.scene.classes.slice(0, 20).map((word, k) => {
      const item = document.createElement("li");
      item.textContent = word;
      item.style.setProperty("--gx-class", colours[k % colours.length]);
      return item;
    }));
  }

  // --- the path that follows -------------------------------------------------------------------------------------

  // Ask for the path between the ends. While they move one request is on its way at a time, and the next has the ends
  // of then. When they rest nothing is waited for: first the certificate, then whatever makes it better.
  async follow(stage) {
    this.place();
    this.draw();
    if (stage === "moving") {
      this.wanted = true;
      if (this.chasing) return;
      this.chasing = true;
      while (this.wanted) {
        this.wanted = false;
        this.badge("moving", "following");
        await this.request("moving");
      }
      this.chasing = false;
      return;
    }
    this.wanted = false;
    clearTimeout(this.resting);
    this.badge("busy", "solving");
    let reply;
    for (const stage of ["resting", "resolved", "final"]) {
      if (stage === "resolved" && reply.converged && reply.resolved) continue;
      reply = await this.request(stage);
      if (!reply || reply.failed || reply.number !== this.newest || this.dragging >= 0) return;
    }
  }

  // One answer, shown unless a newer one is.
  async request(stage) {
    this.flying += 1;
    const ends = this.ends.map((end) => [...end]);
    const reply = await this.ask({ kind: "follow", ...this.about(), ends, stage });
    this.flying -= 1;
    if (!reply || reply.number < this.newest) return null;
    this.newest = reply.number ?? this.newest;
    if (reply.failed) {
      if (!reply.gone) this.badge("failed", "no answer here");
    } else this.show(reply, ends);
    return reply;
  }

  show(reply, ends) {
    const certain = reply.stage !== "moving", last = reply.stage === "final";
    this.say(reply.trouble || (last ? reply.remedy : ""));
    this.el.dataset.stage = reply.stage;
    if (reply.ends && certain) [this.ends, ends] = [reply.ends, reply.ends]; // of an answer: its pairs and no other
    this.path = { nodes: pointsOf(reply.path), ends };
    this.reply = reply;
    const figure = (name, text) => { this.$(`[data-figure="${name}"]`).textContent = text; };
    figure("length", (certain ? "" : "≈ ") + number(reply.length, certain ? 4 : 3));
    figure("ratio", reply.ratio === null ? "–" : `${(100 * reply.ratio).toFixed(1)} %`);
    figure("converged", certain ? (reply.converged ? "yes" : "no") : "…");
    figure("resolved", certain ? (reply.resolved ? "yes" : last ? "no" : "…") : "…");
    const away = reply.off_plane > 1e-3 ? ` · leaves the plane by up to ${number(reply.off_plane, 2)}` : "";
    this.$(".gx-note").textContent = `${reply.segments} segments, ${reply.steps} steps, ${Math.round(reply.ms)} ms${away}`;
    if (reply.converged && reply.resolved && reply.minimum && certain) this.badge("certified", "certified geodesic");
    else if (last && !reply.converged) this.badge("failed", "not converged");
    else if (last) this.badge("doubt", reply.resolved ? "converged, no strict minimum" : "converged, not resolved");
    else if (certain) this.badge("busy", reply.converged ? "converged, refining" : "solving");
    this.updates.push([performance.now(), reply.stage, reply.ms, this.$(".gx-badge").dataset.state]);
    if (this.updates.length > 1000) this.updates.shift();
    this.place();
    this.strips();
    this.draw();
  }

  badge(state, text) {
    const badge = this.$(".gx-badge");
    badge.dataset.state = state;
    const span = badge.querySelector("span");
    if (span.textContent !== text) span.textContent = text;
  }

  say(text) { this.$(".gx-say").textContent = text || ""; }

  // --- shading, pairs, pictures of points --------------------------------------------------------------------------

  async shading() {
    const mine = (this.shadingRun = {});
    const fields = { kind: "shade", ...this.about(), quantity: this.choice("quantity").value, bounds: this.bounds };
    this.shade = null;
    if (!this.scene.shadings.length) return;
    for (const size of SIZES) {
      const values = new Float32Array(size * size).fill(NaN);
      for (let row = 0; row < size; ) {
        while (this.dragging >= 0 || this.flying) await pause(60); // the path comes first
        const reply = await this.ask({ ...fields, size, row });
        if (this.shadingRun !== mine || reply?.failed) return;
        if (!reply) continue; // it gave way to a path
        values.set(reply.values.values, row * size);
        row += reply.values.shape[0];
        if (size === SIZES[0] && row < size) continue;
        this.paint(values, size, fields.quantity);
      }
    }
  }

  // Fine rows are painted over the rough map as they come.
  paint(values, size, quantity) {
    const known = [...values].filter(Number.isFinite).sort((a, b) => a - b);
    if (!this.shade || this.shade.quantity !== quantity || size === SIZES[0]) {
      const at = (q) => known[Math.min(known.length - 1, Math.floor(q * known.length))];
      const sizes = known.map(Math.abs).sort((a, b) => a - b);
      this.shade = { quantity, low: at(0.01), high: at(0.99), most: sizes[Math.floor(0.97 * sizes.length)] || 1, layers: [] };
    }
    const layer = { values, size };
    this.shade.layers = [...this.shade.layers.filter((old) => old.size !== size), layer];
    this.tint(layer);
    this.draw(true);
  }

  tint(layer) {
    const { quantity, low, high, most } = this.shade;
    const { values, size } = layer;
    const canvas = (layer.canvas ||= new OffscreenCanvas(size, size));
    const context = canvas.getContext("2d");
    const image = context.createImageData(size, size);
    const [ink, plus, minus] = ["ink", "plus", "minus"].map((name) => rgb(this.colour(name)));
    const paper = rgb(this.colour("paper"));
    for (let i = 0; i < values.length; i++) {
      const row = size - 1 - Math.floor(i / size); // the second coordinate points upwards
      const at = 4 * (row * size + (i % size));
      const x = values[i];
      if (!Number.isFinite(x)) continue;
      const signed = quantity === "curvature";
      const share = signed ? Math.min(1, Math.sqrt(Math.abs(x) / most)) : Math.min(1, Math.max(0, (x - low) / (high - low || 1)));
      const colour = signed ? (x > 0 ? plus : minus) : ink;
      const weight = 0.46 * share;
      for (let c = 0; c < 3; c++) image.data[at + c] = paper[c] + weight * (colour[c] - paper[c]);
      image.data[at + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  }

  async allPairs() {
    const mine = (this.pairsRun = {});
    this.pairs = this.choice("pairs").checked ? [] : null;
    this.draw();
    if (!this.pairs) return;
    for (let first = 0; first < this.scene.pairs; ) {
      while (this.dragging >= 0 || this.flying) await pause(60);
      const reply = await this.ask({ kind: "pairs", ...this.about(), first });
      if (this.pairsRun !== mine || reply?.failed) return;
      if (!reply) continue; // it gave way to a path
      const [count, nodes] = reply.paths.shape;
      for (let k = 0; k < count; k++) {
        const values = reply.paths.values.subarray(2 * k * nodes, 2 * (k + 1) * nodes);
        this.pairs.push({ nodes: pointsOf({ values, shape: [nodes, 2] }), name: reply.names[k], figures: reply.figures[k] });
      }
      first += count;
      this.draw();
    }
  }

  async look(row, x, y) {
    const tip = this.$(".gx-tip");
    this.looking = row;
    if (row < 0) { tip.hidden = true; return; }
    if (!this.seen.has(row)) this.seen.set(row, await this.ask({ kind: "look", row, tab: this.tab }));
    const reply = this.seen.get(row);
    if (this.looking !== row || !reply || reply.failed) return;
    const canvas = tip.querySelector("canvas");
    canvas.hidden = !reply.picture;
    if (reply.picture) this.drawCells(canvas, reply.picture, 72);
    const label = this.scene.classes[this.scene.labels.values[row]];
    tip.querySelector("span").textContent = label ?? `point ${row}`;
    const width = this.$(".gx-map").clientWidth;
    tip.style.left = `${Math.min(Math.max(x, 50), width - 50)}px`;
    tip.style.top = `${y}px`;
    tip.classList.toggle("gx-below", y < 130);
    tip.hidden = false;
  }

  // --- from the plane to pixels and back -----------------------------------------------------------------------------

  resize() {
    const { clientWidth: width, clientHeight: height } = this.$(".gx-map");
    const scale = window.devicePixelRatio || 1;
    if (!width || !this.scene) return;
    this.width = width;
    this.height = height;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    this.place();
    this.strips();
    this.draw(true);
  }

  toPixels([x, y]) {
    const [[x0, x1], [y0, y1]] = this.bounds;
    return [((x - x0) / (x1 - x0)) * this.width, (1 - (y - y0) / (y1 - y0)) * this.height];
  }

  toPlane(px, py) {
    const [[x0, x1], [y0, y1]] = this.bounds;
    const clip = (t) => Math.min(1, Math.max(0, t));
    return [x0 + clip(px / this.width) * (x1 - x0), y0 + clip(1 - py / this.height) * (y1 - y0)];
  }

  place() {
    this.buttons.forEach((button, k) => {
      const [x, y] = this.toPixels(this.ends[k]);
      button.style.transform = `translate(${x}px, ${y}px)`;
      const [first, second] = this.ends[k].map((value) => value.toFixed(2));
      button.setAttribute("aria-label", `${k ? "end B" : "end A"} of the path, at ${first}, ${second}; arrow keys move it`);
    });
  }

  // --- drawing -----------------------------------------------------------------------------------------------------------

  draw(stale = false) {
    this.stale ||= stale;
    if (this.drawing) return;
    this.drawing = requestAnimationFrame(() => {
      this.drawing = null;
      if (!this.scene || !this.width) return;
      const context = this.canvas.getContext("2d");
      const scale = this.canvas.width / this.width;
      context.setTransform(scale, 0, 0, scale, 0, 0);
      this.drawMap(context);
    });
  }

  // The path, moved with the ends since it was found.
  get moved() {
    if (!this.path) return null;
    const { nodes, ends } = this.path;
    const steps = [0, 1].map((k) => [0, 1].map((c) => this.ends[k][c] - ends[k][c]));
    const last = nodes.length - 1;
    return nodes.map((node, i) => [0, 1].map((c) => node[c] + (1 - i / last) * steps[0][c] + (i / last) * steps[1][c]));
  }

  // Shading, axes and points: drawn again only when they change, since paths move all the time.
  drawGround() {
    const { width, height } = this;
    this.ground ||= new OffscreenCanvas(1, 1);
    [this.ground.width, this.ground.height] = [this.canvas.width, this.canvas.height];
    const context = this.ground.getContext("2d"), scale = this.canvas.width / width;
    const ink = this.colour("ink"), colours = this.dark ? BRIGHT : PALE;
    context.scale(scale, scale);
    context.fillStyle = this.colour("paper");
    context.fillRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    for (const layer of this.shade?.layers ?? []) context.drawImage(layer.canvas, 0, 0, width, height);
    this.drawAxes(context, ink);
    const { values, shape: [count] } = this.scene.points;
    const radius = Math.max(1.3, Math.min(2.6, 60 / Math.sqrt(count) + 0.6));
    context.globalAlpha = 0.8;
    for (let i = 0; i < count; i++) {
      const [x, y] = this.toPixels([values[2 * i], values[2 * i + 1]]);
      context.fillStyle = this.scene.classes.length ? colours[this.scene.labels.values[i] % colours.length] : ink;
      context.beginPath();
      context.arc(x, y, this.picking?.includes(i) ? 3 * radius : radius, 0, 2 * Math.PI);
      context.fill();
    }
    this.stale = false;
  }

  drawMap(context) {
    const paper = this.colour("paper"), ink = this.colour("ink"), accent = this.colour("accent");
    if (this.stale) this.drawGround();
    context.drawImage(this.ground, 0, 0, this.width, this.height);
    for (const pair of this.pairs ?? []) {
      this.stroke(context, pair.nodes, { colour: paper, width: 3.5, alpha: 0.7 });
      this.stroke(context, pair.nodes, { colour: ink, width: 1.3, alpha: 0.75 });
    }
    for (const pair of this.pairs?.length <= 24 ? this.pairs : []) this.drawName(context, pair, ink, paper);
    this.stroke(context, this.ends, { colour: paper, width: 4, alpha: 0.8 });
    this.stroke(context, this.ends, { colour: ink, width: 1.5, alpha: 0.9, dashes: [6, 5] });
    const path = this.moved;
    if (path) {
      this.stroke(context, path, { colour: paper, width: 7, alpha: 0.9 });
      this.stroke(context, path, { colour: accent, width: 3.2, alpha: 1 });
      if (this.time !== undefined) {
        const [x, y] = this.toPixels(path[Math.round(this.time * (path.length - 1))]);
        context.beginPath();
        context.arc(x, y, 5, 0, 2 * Math.PI);
        context.fillStyle = accent;
        context.fill();
      }
    }
  }

  stroke(context, nodes, { colour, width, alpha, dashes }) {
    context.beginPath();
    nodes.forEach((node, i) => context[i ? "lineTo" : "moveTo"](...this.toPixels(node)));
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.globalAlpha = alpha;
    context.lineJoin = context.lineCap = "round";
    context.setLineDash(dashes ?? []);
    context.stroke();
    context.setLineDash([]);
    context.globalAlpha = 1;
  }

  drawName(context, pair, ink, paper) {
    const [x, y] = this.toPixels(pair.nodes[Math.floor(pair.nodes.length / 2)]);
    context.font = `11px ${this.font}`;
    context.textAlign = "center";
    context.lineWidth = 3;
    context.strokeStyle = paper;
    context.fillStyle = ink;
    context.strokeText(shortName(pair.name), x, y - 5);
    context.fillText(shortName(pair.name), x, y - 5);
  }

  get font() { return getComputedStyle(this.el).fontFamily; }

  drawAxes(context, ink) {
    context.font = `10.5px ${this.font}`;
    context.fillStyle = context.strokeStyle = ink;
    context.globalAlpha = 0.55;
    context.lineWidth = 1;
    for (const axis of [0, 1]) {
      const [low, high] = this.bounds[axis];
      for (const tick of ticks(low, high)) {
        const [x, y] = this.toPixels(axis ? [this.bounds[0][0], tick] : [tick, this.bounds[1][0]]);
        context.beginPath();
        context.moveTo(x, y);
        context.lineTo(axis ? x + 5 : x, axis ? y : y - 5);
        context.stroke();
        context.textAlign = axis ? "left" : "center";
        context.textBaseline = axis ? "middle" : "alphabetic";
        context.fillText(String(+tick.toPrecision(6)).replace("-", "−"), axis ? x + 8 : x, axis ? y : y - 8);
      }
    }
    context.textBaseline = "alphabetic";
    context.globalAlpha = 1;
  }

  strips() {
    if (!this.reply || !this.scene?.pictured) return;
    this.$('[data-export="gif"]').hidden = this.reply.geodesic?.shape.length === 2; // movies show images
    for (const name of ["straight", "geodesic"]) {
      const canvas = this.$(`[data-strip="${name}"]`);
      canvas.hidden = !this.reply[name];
      if (!this.reply[name]) continue;
      const range = rangeOf([this.reply.straight, this.reply.geodesic]);
      this.drawCells(canvas, this.reply[name], this.$(".gx-strips figure canvas").parentElement.clientWidth, range);
      const length = name === "straight" ? this.reply.straight_length : this.reply.length;
      canvas.setAttribute("aria-label", `Outputs at ${this.reply[name].shape[0]} equal times along the ${name} path`);
      canvas.closest("figure").querySelector("figcaption").innerHTML = `${name} <b>${number(length, 4)}</b>`;
    }
  }

  // Pictures side by side: images, or vectors as bars or curves.
  drawCells(canvas, { values, shape }, room, range = rangeOf([{ values, shape }])) {
    const [count, ...event] = shape;
    const scale = window.devicePixelRatio || 1;
    const images = event.length > 1;
    const gap = count > 1 ? 3 : 0;
    const cell = (room - gap * (count - 1)) / count;
    const height = images ? (cell * event[0]) / event[1] : Math.min(cell, 90);
    canvas.width = Math.round(room * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.height = `${height}px`;
    canvas.style.width = `${room}px`;
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    context.imageSmoothingEnabled = images && event[1] > cell * scale;
    const ink = this.colour("ink"), size = event.reduce((a, b) => a * b, 1);
    for (let k = 0; k < count; k++) {
      const some = values.subarray(k * size, (k + 1) * size);
      const left = k * (cell + gap);
      if (images) context.drawImage(imageOf(some, event, rgb(ink), rgb(this.colour("paper"))), left, 0, cell, height);
      else drawVector(context, some, range, { left, width: cell, height, ink, faint: this.colour("line") });
    }
  }

  // --- what the user does ----------------------------------------------------------------------------------------------

  listen() {
    const map = this.$(".gx-map");
    const at = (event) => {
      const box = map.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    this.buttons.forEach((button, k) => {
      button.addEventListener("pointerdown", (event) => {
        if (!this.scene) return;
        button.setPointerCapture(event.pointerId);
        this.dragging = k;
        this.look(-1);
      });
      button.addEventListener("pointermove", (event) => {
        if (this.dragging !== k) return;
        this.ends[k] = this.toPlane(...at(event));
        this.follow("moving");
      });
      for (const end of ["pointerup", "pointercancel"])
        button.addEventListener(end, () => {
          if (this.dragging !== k) return;
          this.dragging = -1;
          this.follow("resting");
        });
      button.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
        if (!step || !this.scene) return;
        event.preventDefault();
        const share = event.shiftKey ? 0.05 : 0.01;
        const moved = this.ends[k].map((x, c) => x + share * step[c] * (this.bounds[c][1] - this.bounds[c][0]));
        this.ends[k] = this.toPlane(...this.toPixels(moved));
        this.follow("moving");
        clearTimeout(this.resting);
        this.resting = setTimeout(() => this.follow("resting"), REST);
      });
    });
    map.addEventListener("pointermove", (event) => {
      if (!this.scene || this.dragging >= 0) return;
      const [x, y] = at(event);
      const row = event.target.closest(".gx-end") ? -1 : this.nearest(x, y);
      if (row !== this.looking) this.look(row, x, y);
    });
    map.addEventListener("pointerleave", () => this.look(-1));
    this.canvas.addEventListener("click", (event) => this.click(...at(event)));
    for (const name of ["geometry", "solver", "start"])
      this.choice(name).addEventListener("change", () => {
        this.path = null;
        this.follow("resting");
        if (name === "geometry") this.shading();
        this.allPairs();
      });
    this.choice("quantity").addEventListener("change", () => this.shading());
    this.choice("pairs").addEventListener("change", () => this.allPairs());
    this.$('[data-do="plane"]').addEventListener("click", () => this.choosePlane());
    for (const button of this.el.querySelectorAll("[data-export]"))
      button.addEventListener("click", () => this.export(button.dataset.export));
    for (const canvas of this.el.querySelectorAll("[data-strip]")) {
      canvas.addEventListener("pointermove", (event) => {
        const box = canvas.getBoundingClientRect();
        const count = this.reply?.straight?.shape[0] ?? 2;
        this.time = Math.min(1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * count) / (count - 1)));
        this.draw();
      });
      canvas.addEventListener("pointerleave", () => { this.time = undefined; this.draw(); });
    }
    this.watching = new ResizeObserver(() => this.resize());
    this.watching.observe(map);
    this.system = matchMedia("(prefers-color-scheme: dark)");
    this.recolour = () => {
      this.theme();
      this.shade?.layers.forEach((layer) => this.tint(layer));
      if (this.scene) this.classes();
      this.resize();
    };
    this.system.addEventListener("change", this.recolour);
    this.notebook = new MutationObserver(this.recolour);
    this.notebook.observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
    this.theme();
  }

  // As the notebook is, where JupyterLab says so; else as the system is.
  theme() {
    const light = document.body.dataset.jpThemeLight;
    const dark = light === undefined ? this.system.matches : light === "false";
    this.el.dataset.theme = dark ? "dark" : "light";
  }

  nearest(x, y) {
    const { values, shape: [count] } = this.scene.points;
    let best = -1, least = NEAR * NEAR;
    for (let i = 0; i < count; i++) {
      const [px, py] = this.toPixels([values[2 * i], values[2 * i + 1]]);
      const off = (px - x) ** 2 + (py - y) ** 2;
      if (off < least) [best, least] = [i, off];
    }
    return best;
  }

  click(x, y) {
    if (!this.scene) return;
    const row = this.nearest(x, y);
    if (this.picking) return row >= 0 && this.pick(row);
    const off = (node) => Math.hypot(...this.toPixels(node).map((p, c) => p - [x, y][c]));
    const pair = row < 0 && this.pairs?.find((some) => some.nodes.some((node) => off(node) < NEAR));
    if (pair) this.ends = [pair.nodes[0], pair.nodes.at(-1)].map((node) => [...node]);
    else if (row >= 0) {
      const { values } = this.scene.points;
      this.ends[off(this.ends[0]) <= off(this.ends[1]) ? 0 : 1] = [values[2 * row], values[2 * row + 1]];
    } else return;
    this.path = null;
    this.follow("resting");
  }

  choosePlane() {
    const button = this.$('[data-do="plane"]');
    if (this.plane || this.picking) {
      const back = Boolean(this.plane);
      this.plane = this.picking = null;
      button.textContent = "plane through three points";
      this.say("");
      if (back) this.begin();
      else this.draw(true);
      return;
    }
    this.picking = [];
    button.textContent = "cancel";
    this.say("Click three points of the data: the plane through them is shown.");
  }

  async pick(row) {
    if (this.picking.includes(row)) return;
    this.picking.push(row);
    this.draw(true);
    if (this.picking.length < 3) return;
    this.plane = this.picking;
    this.picking = null;
    const button = this.$('[data-do="plane"]');
    button.textContent = "principal directions";
    this.say("");
    if (!(await this.begin())) {
      this.plane = null;
      button.textContent = "plane through three points";
    }
  }

  // --- export ---------------------------------------------------------------------------------------------------------------

  async export(kind) {
    const name = `${this.scene.title.replace(/[^\w.-]+/g, "-")}-geodesic.${kind}`;
    if (kind === "png") return this.picture().toBlob((blob) => save(blob, name));
    if (kind === "svg") return save(new Blob([this.svg()], { type: "image/svg+xml" }), name);
    const reply = await this.ask({ kind: "export", ...this.about(), format: kind });
    if (reply && !reply.failed) save(new Blob([reply.file.values]), name);
  }

  // The map, both strips and what the badge says, as they are seen now.
  picture() {
    const strips = [...this.el.querySelectorAll("[data-strip]")].filter((strip) => !strip.hidden && this.scene.pictured);
    const scale = this.canvas.width / this.width, margin = 16 * scale;
    const width = Math.max(this.canvas.width, ...strips.map((strip) => strip.width)) + 2 * margin;
    const canvas = document.createElement("canvas");
    const rows = strips.reduce((sum, strip) => sum + strip.height + margin / 2, 0);
    canvas.width = width;
    canvas.height = this.canvas.height + rows + 4 * margin;
    const context = canvas.getContext("2d");
    context.fillStyle = this.colour("ground");
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(this.canvas, (width - this.canvas.width) / 2, margin);
    const left = (width - this.canvas.width) / 2;
    for (const end of this.ends) {
      const [x, y] = this.toPixels(end).map((p) => p * scale);
      context.beginPath();
      context.arc(left + x, margin + y, 7 * scale, 0, 2 * Math.PI);
      context.fillStyle = this.colour("paper");
      context.fill();
      context.lineWidth = 2.5 * scale;
      context.strokeStyle = this.colour("accent");
      context.stroke();
    }
    let top = this.canvas.height + 2 * margin;
    for (const strip of strips) {
      context.drawImage(strip, (width - strip.width) / 2, top);
      top += strip.height + margin / 2;
    }
    context.fillStyle = this.colour("ink");
    context.font = `${13 * scale}px ${this.font}`;
    context.fillText(this.caption, margin, canvas.height - margin);
    return canvas;
  }

  get caption() {
    const { length, ratio } = this.reply ?? {};
    return `${this.scene.title}: ${this.$(".gx-badge span").textContent}, length ${number(length, 4)}, ${number(ratio, 4)} of the straight line`;
  }

  svg() {
    const { width, height } = this;
    const shade = document.createElement("canvas");
    [shade.width, shade.height] = [256, 256];
    for (const layer of this.shade?.layers ?? []) shade.getContext("2d").drawImage(layer.canvas, 0, 0, 256, 256);
    const at = (node) => this.toPixels(node).map((p) => p.toFixed(2)).join(" ");
    const line = (nodes, more) => `<polyline points="${nodes.map(at).join(" ")}" fill="none" stroke-linejoin="round" ${more}/>`;
    const colours = this.dark ? BRIGHT : PALE, ink = this.colour("ink"), paper = this.colour("paper"), accent = this.colour("accent");
    const { values, shape: [count] } = this.scene.points;
    const dots = Array.from({ length: count }, (_, i) => {
      const [x, y] = this.toPixels([values[2 * i], values[2 * i + 1]]);
      const fill = this.scene.classes.length ? colours[this.scene.labels.values[i] % colours.length] : ink;
      return `<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="1.6" fill="${fill}"/>`;
    });
    const ends = this.ends.map((end) => `<circle cx="${this.toPixels(end)[0].toFixed(2)}" cy="${this.toPixels(end)[1].toFixed(2)}" r="7" fill="${paper}" stroke="${accent}" stroke-width="2.5"/>`);
    return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height + 30}" width="${width}" height="${height + 30}">
<title>${escaped(this.caption)}</title><rect width="100%" height="100%" fill="${paper}"/>
<image href="${shade.toDataURL()}" width="${width}" height="${height}" preserveAspectRatio="none"/>
<svg width="${width}" height="${height}"><g opacity="0.8">${dots.join("")}</g>
${(this.pairs ?? []).map((pair) => line(pair.nodes, `stroke="${ink}" stroke-width="1.3" opacity="0.75"`)).join("")}
${line(this.ends, `stroke="${ink}" stroke-width="1.5" stroke-dasharray="6 5"`)}
${this.path ? line(this.moved, `stroke="${accent}" stroke-width="3.2"`) : ""}${ends.join("")}</svg>
<text x="8" y="${height + 20}" font-family="sans-serif" font-size="12" fill="${ink}">${escaped(this.caption)}</text></svg>`;
  }

  end() {
    this.watching.disconnect();
    this.system.removeEventListener("change", this.recolour);
    this.notebook.disconnect();
    clearTimeout(this.resting);
    this.shadingRun = this.pairsRun = null;
    this.transport.close();
  }
}

// --- small things ------------------------------------------------------------------------------------------------------

const pause = (time) => new Promise((done) => setTimeout(done, time));
const pointsOf = ({ values, shape: [count] }) => Array.from({ length: count }, (_, i) => [values[2 * i], values[2 * i + 1]]);
const number = (x, digits) => (x === null || x === undefined ? "–" : Number(x).toPrecision(digits));
const escaped = (text) => text.replace(/[&<>"]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[sign]);
const rgb = (colour) => colour.match(/[0-9a-f]{2}/gi).map((pair) => parseInt(pair, 16));

// "12 to 7 (3 to 8)" is known by its labels.
function shortName(name) {
  const found = name.match(/\((.+) to (.+)\)$/);
  return found ? `${found[1]} → ${found[2]}` : name;
}

function ticks(low, high) {
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((x) => x * power).find((x) => x >= rough);
  const found = [];
  for (let k = Math.ceil((low + 0.06 * (high - low)) / step); k * step <= high - 0.03 * (high - low); k++) found.push(k * step);
  return found;
}

function rangeOf(parts) {
  let low = 0, high = 1e-9;
  for (const { values, shape } of parts.filter((part) => part && part.shape.length === 2))
    for (const x of values) if (Number.isFinite(x)) [low, high] = [Math.min(low, x), Math.max(high, x)];
  return [low, high];
}

// Gray images are drawn in ink on paper, whichever is the darker one.
function imageOf(values, [height, width, colours], ink, paper) {
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = colours ? values[3 * i + c] : paper[c] + (values[i] / 255) * (ink[c] - paper[c]);
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

const BARS = 32; // values that are still told apart as bars

function drawVector(context, values, [low, high], { left, width, height, ink, faint }) {
  const at = (x) => height - ((x - low) / (high - low)) * height;
  context.fillStyle = faint;
  context.fillRect(left, at(0) - 0.5, width, 1);
  context.fillStyle = context.strokeStyle = ink;
  if (values.length <= BARS) {
    const bar = width / values.length;
    values.forEach((x, i) => context.fillRect(left + (i + 0.12) * bar, Math.min(at(0), at(x)), 0.76 * bar, Math.abs(at(x) - at(0))));
    return;
  }
  context.beginPath();
  values.forEach((x, i) => context[i ? "lineTo" : "moveTo"](left + (i / (values.length - 1)) * width, at(x)));
  context.lineWidth = 1;
  context.stroke();
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// --- hosts -----------------------------------------------------------------------------------------------------------

function render({ model, el }) {
  const explorer = new Explorer(el, overModel(model));
  explorer.begin();
  return () => explorer.end();
}

export default { render };

if (document.body?.classList.contains("geodesic-page")) {
  const explorer = new Explorer(document.querySelector("#explorer"), overHttp(document.baseURI));
  document.title = "geodesic explore";
  explorer.begin();
  globalThis.explorer = explorer; // for the console, and for whoever measures
}
