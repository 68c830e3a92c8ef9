// The picture viewer: original and two codecs side by side, or two pictures under a slider or flickering.
// It takes its pictures from the contact sheets in the page, which it replaces; all panes share one zoom and one place.

const FLICKER_MS = 600; // a bit under one change and back a second, far from what is dangerous to look at
const GAP = 16; // pixels between panes, as in the style sheet
const NARROWEST = 340; // pixels of a pane before it moves below its neighbour

class Viewer {
  /** `prefer` names the curves to begin with: [for A, for B]. */
  constructor(root, sheets, prefer) {
    this.root = root;
    this.prefer = prefer;
    this.pictures = [...sheets.querySelectorAll(".sheet")].map(readSheet);
    this.panes = root.querySelector("#panes");
    this.figures = [...this.panes.querySelectorAll("figure")]; // original, A, B
    this.frames = this.figures.map((figure) => figure.querySelector(".frame"));
    this.divider = htmlNode("div", { class: "divider" });
    this.panes.append(this.divider);
    this.place = { x: 0, y: 0 }; // upper left corner of the view, pixels of the crop
    this.shown = "B"; // while flickering
    this.control = (name) => root.querySelector(`[data-control="${name}"]`);
    this.listen();
    this.control("file").append(...this.pictures.map((p, i) => new Option(p.file, i)));
    this.openPicture(0);
    sheets.hidden = true;
    root.hidden = false;
    this.layOut();
    new ResizeObserver(() => this.layOut()).observe(root);
  }

  get picture() { return this.pictures[this.control("file").value]; }
  get mode() { return this.root.querySelector("[name=view]:checked").value; }
  get zoom() { return Number(this.root.querySelector("[name=zoom]:checked").value); }
  get a() { return this.picture.views[this.control("a").value]; }
  get b() { return this.picture.views[this.control("b").value]; }

  listen() {
    this.control("file").addEventListener("change", () => this.openPicture(this.control("file").value));
    this.control("a").addEventListener("change", () => this.match("a", "b"));
    this.control("b").addEventListener("change", () => this.match("b", "a"));
    this.control("match").addEventListener("change", () => this.match("b", "a"));
    for (const radio of this.root.querySelectorAll("[name=view], [name=zoom]")) {
      radio.addEventListener("change", () => this.layOut());
    }
    this.slider = this.root.querySelector("#wipe input");
    this.slider.addEventListener("input", () => this.wipe());
    this.button = this.root.querySelector("#flicker");
    this.playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.button.addEventListener("click", () => {
      this.playing = !this.playing;
      this.flicker();
    });
    for (const frame of this.frames) {
      frame.addEventListener("pointerdown", (event) => frame.setPointerCapture(event.pointerId));
      frame.addEventListener("pointermove", (event) => {
        if (!frame.hasPointerCapture(event.pointerId)) return;
        if (this.mode === "wipe") this.wipeTo((event.clientX - frame.getBoundingClientRect().left) / frame.clientWidth);
        else this.moveBy(-event.movementX / this.zoom, -event.movementY / this.zoom);
      });
      frame.addEventListener("keydown", (event) => this.key(event));
    }
  }

  key(event) {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (event.key === " " && this.mode === "flicker") this.swap();
    else if (dx && this.mode === "wipe") this.wipeTo(this.slider.value / 100 + dx * 0.02);
    else if (dx || dy) this.moveBy(dx * 16, dy * 16);
    else return;
    event.preventDefault();
  }

  /** Show another picture, with the same codecs at about the same rates where it has them. */
  openPicture(place) {
    const before = this.views; // of the picture shown so far, undefined at the beginning
    this.control("file").value = place;
    const { views } = this.picture;
    const [a, b] = before ? before.map((view) => this.like(view)) : this.first();
    for (const [name, chosen] of [["a", a], ["b", b]]) {
      const text = (view) => (view.bpp ? `${view.name}, ${view.bpp.toFixed(3)} bpp` : view.name);
      this.control(name).replaceChildren(...views.map((view, i) => new Option(text(view), i)));
      this.control(name).value = views.indexOf(chosen);
    }
    this.root.querySelector("#crop-note").textContent = `Shown: ${this.picture.crop}. Drag, or use the arrow keys, to move.`;
    this.refresh();
  }

  /** Return the two views to begin with: the preferred codecs, B in the middle of its rates, A at the nearest rate. */
  first() {
    const { views } = this.picture;
    const of = (curve) => views.filter((view) => view.curve === curve);
    const coded = views.filter((view) => view.curve);
    if (!coded.length) return [views[0], views[0]];
    const mine = of(this.prefer[1]).length ? of(this.prefer[1]) : of(coded[0].curve);
    const b = mine[Math.floor((mine.length - 1) / 2)];
    const others = of(this.prefer[0]).length ? of(this.prefer[0]) : coded.filter((view) => view.curve !== b.curve);
    const theirs = others.filter((view) => view.curve === others[0].curve && view.curve !== b.curve);
    return [theirs.length ? nearest(theirs, b.bpp) : views[0], b];
  }

  like(view) {
    const same = this.picture.views.filter((other) => other.curve === view.curve);
    return same.find((other) => other.setting === view.setting) ?? (same.length ? nearest(same, view.bpp) : this.picture.views[0]);
  }

  /** Keep the codec of the other side and give it the setting nearest in rate to the side that was chosen. */
  match(chosen, other) {
    const [mine, theirs] = [this[chosen], this[other]];
    if (this.control("match").checked && mine.curve && theirs.curve && mine.curve !== theirs.curve) {
      const { views } = this.picture;
      const same = views.filter((view) => view.curve === theirs.curve);
      this.control(other).value = views.indexOf(nearest(same, mine.bpp));
    }
    this.refresh();
  }

  refresh() {
    this.views = [this.a, this.b];
    [this.picture.views[0], this.a, this.b].forEach((view, i) => {
      const image = this.frames[i].querySelector("img");
      image.src = view.source;
      image.alt = view.name;
      const letter = ["", "A ", "B "][i];
      const rest = view.facts && ` ${view.facts}`;
      const ratio = i === 2 && this.a.bpp && view.bpp ? 100 * (view.bpp / this.a.bpp - 1) : null;
      const more = ratio === null ? "" : `, ${ratio < 0 ? "\u2212" : "+"}${Math.abs(ratio).toFixed(1)} % bits against A`;
      this.figures[i].querySelector("figcaption").replaceChildren(letter, htmlNode("b", {}, view.name), `${rest}${more}`);
    });
    this.layOut();
  }

  layOut() {
    const { mode, zoom, panes } = this;
    const side = mode === "side";
    const reference = side && this.a.curve !== "" && this.b.curve !== "";
    panes.classList.toggle("side", side);
    this.figures[0].hidden = !reference;
    this.root.querySelector("#wipe").hidden = mode !== "wipe";
    this.button.hidden = mode !== "flicker";
    this.divider.hidden = mode !== "wipe";
    const count = side ? 2 + reference : 1;
    const columns = Math.min(count, Math.max(1, Math.floor((panes.clientWidth + GAP) / (NARROWEST + GAP))));
    const { width, height } = this.picture;
    this.size = {
      width: Math.min(width * zoom, Math.floor((panes.clientWidth - GAP * (columns - 1)) / columns)),
      height: Math.min(height * zoom, Math.max(height, side ? 0 : innerHeight * 0.8)),
    };
    panes.style.gridTemplateColumns = `repeat(${columns}, ${this.size.width}px)`;
    for (const [i, frame] of this.frames.entries()) {
      frame.style.width = `${this.size.width}px`;
      frame.style.height = `${this.size.height}px`;
      frame.style.touchAction = mode !== "wipe" && height * zoom > this.size.height ? "none" : "pan-y";
      frame.style.visibility = "";
    }
    this.moveBy(0, 0);
    this.wipe();
    this.flicker();
  }

  /** Move the view, as far as there is picture. */
  moveBy(dx, dy) {
    const { zoom, place, size } = this;
    place.x = Math.max(0, Math.min(place.x + dx, this.picture.width - size.width / zoom));
    place.y = Math.max(0, Math.min(place.y + dy, this.picture.height - size.height / zoom));
    for (const frame of this.frames) {
      frame.querySelector("img").style.transform = `scale(${zoom}) translate(${-place.x}px, ${-place.y}px)`;
    }
  }

  wipeTo(share) {
    this.slider.value = 100 * Math.max(0, Math.min(share, 1));
    this.wipe();
  }

  wipe() {
    const share = Number(this.slider.value);
    this.frames[2].style.clipPath = this.mode === "wipe" ? `inset(0 0 0 ${share}%)` : "";
    this.divider.style.marginLeft = `${(this.size.width * share) / 100 - 1}px`;
  }

  flicker() {
    clearInterval(this.timer);
    const on = this.mode === "flicker";
    if (on && this.playing) this.timer = setInterval(() => this.swap(), FLICKER_MS);
    this.button.textContent = this.playing ? "Pause" : "Play";
    this.button.setAttribute("aria-pressed", this.playing);
    if (on) this.reveal();
    else for (const figure of this.figures) figure.classList.remove("off");
  }

  swap() {
    this.shown = this.shown === "A" ? "B" : "A";
    this.reveal();
  }

  reveal() {
    this.frames[2].style.visibility = this.shown === "B" ? "" : "hidden";
    this.figures[1].classList.toggle("off", this.shown === "B");
    this.figures[2].classList.toggle("off", this.shown === "A");
  }
}

function showExhibits(sheets, prefer) {
  new Viewer(document.getElementById("viewer"), sheets, prefer);
}

function nearest(views, bpp) {
  const far = (view) => Math.abs(Math.log(view.bpp / bpp));
  return views.reduce((best, view) => (far(view) < far(best) ? view : best));
}

function readSheet(sheet) {
  const views = [...sheet.querySelectorAll("figure")].map((figure) => {
    const image = figure.querySelector("img");
    const { curve = "", setting = "", bpp = "0", facts = "" } = figure.dataset;
    return { name: image.alt, source: image.src, curve, setting, bpp: Number(bpp), facts };
  });
  const [width, height] = ["width", "height"].map((name) => Number(sheet.querySelector("img").getAttribute(name)));
  return { file: sheet.dataset.file, crop: sheet.dataset.crop, views, width, height };
}
