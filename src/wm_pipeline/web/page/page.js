// Two dreams side by side, which begin alike and have the same noise: the player's and the
// controller's. M, V's decoder and C are ONNX files; see exporting/modules.py for their
// inputs. Nothing leaves the browser.

import * as ort from "./ort.wasm.bundle.min.mjs";

const DREAMS = 2;
const $ = (id) => document.getElementById(id);

// Random numbers

function generator(seed) { // mulberry32: uniform in (0, 1)
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (((mixed ^ (mixed >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
}

const gumbel = (random) => -Math.log(-Math.log(random()));
const normal = (random) => Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random());

// The same draws for every dream.
function noise(random, draw, size) {
  const row = Float32Array.from({ length: size }, () => draw(random));
  const rows = new Float32Array(DREAMS * size);
  for (let dream = 0; dream < DREAMS; dream++) rows.set(row, dream * size);
  return rows;
}

// The world

function floats(base64) {
  return new Float32Array(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)).buffer);
}

async function loadWorld() {
  ort.env.wasm.numThreads = 1; // more need headers that a static host may not send
  ort.env.wasm.wasmPaths = {
    wasm: new URL("ort-wasm-simd-threaded.wasm", import.meta.url).href,
  };
  const game = await (await fetch("game.json")).json();
  const open = async (name) => ort.InferenceSession.create(
    new Uint8Array(await (await fetch(`${name}.onnx`)).arrayBuffer()),
    { executionProviders: ["wasm"] },
  );
  const [dream, decoder, controller] = [
    await open("dream"), await open("decoder"), await open("controller"),
  ];
  const starts = { means: floats(game.starts.means), logs: floats(game.starts.log_variances) };
  return { game, dream, decoder, controller, starts };
}

class Dreams {
  constructor(world) {
    this.world = world;
  }

  begin(seed) {
    const { game, starts } = this.world;
    const { latent, hidden } = game.sizes;
    this.random = generator(seed);
    const first = Math.floor(this.random() * game.starts.count) * latent;
    const draws = noise(this.random, normal, latent);
    const z = draws.map((draw, place) => {
      const at = first + (place % latent);
      return starts.means[at] + Math.exp(starts.logs[at] / 2) * draw;
    });
    this.z = new ort.Tensor("float32", z, [DREAMS, latent]);
    const zeros = () => new ort.Tensor(
      "float32", new Float32Array(DREAMS * hidden), [DREAMS, hidden],
    );
    [this.h, this.c] = [zeros(), zeros()];
    this.steps = 0;
    this.scores = new Array(DREAMS).fill(0);
    this.over = new Array(DREAMS).fill(false);
    this.ended = new Array(DREAMS).fill(false);
    this.still = new Array(DREAMS).fill(false);
  }

  // One step of M. `steer` is the control of the first dream, or null for the controller's.
  async step(steer, temperature) {
    const { game, dream, controller } = this.world;
    const { latent, choices, mixtures, control: size } = game.sizes;
    const { z, h, c } = this;
    const given = { z, h, c };
    const known = Object.fromEntries(controller.inputNames.map((name) => [name, given[name]]));
    const { control } = await controller.run(known);
    const controls = Float32Array.from(control.data);
    if (steer !== null) controls.set(steer, 0);
    const tensor = (data, ...shape) => new ort.Tensor("float32", data, shape);
    const found = await dream.run({
      ...given,
      control: tensor(controls, DREAMS, size),
      gumbel: tensor(noise(this.random, gumbel, choices * mixtures), DREAMS, choices, mixtures),
      normal: tensor(noise(this.random, normal, latent), DREAMS, latent),
      temperature: tensor(Float32Array.of(temperature)),
    });
    [this.z, this.h, this.c] = [found.next_z, found.next_h, found.next_c];
    this.steps += 1;
    for (let row = 0; row < DREAMS; row++) {
      if (this.over[row]) continue;
      this.scores[row] += found.reward.data[row];
      this.ended[row] = Boolean(found.end.data[row]);
      this.over[row] = this.ended[row] || this.steps >= game.max_steps;
    }
  }

  async draw(canvases) {
    const { frame } = await this.world.decoder.run({ z: this.z });
    const pixels = 64 * 64;
    canvases.forEach((canvas, row) => {
      if (this.still[row]) return; // its last frame stays
      this.still[row] = this.over[row];
      const image = new ImageData(64, 64);
      for (let pixel = 0; pixel < pixels; pixel++) {
        const from = (row * pixels + pixel) * 3;
        image.data.set([...frame.data.subarray(from, from + 3), 255], pixel * 4);
      }
      canvas.getContext("2d").putImageData(image, 0, 0);
    });
  }
}

// Hands

// A letter is the same key under Shift and Caps Lock.
const plain = (key) => (key.length === 1 ? key.toLowerCase() : key);

// What a key means with another held is the browser's: Ctrl and R load the page again. AltGr,
// which some systems tell as Ctrl and Alt, is how others write a character.
const browsers = (event) => event.metaKey
  || ((event.ctrlKey || event.altKey) && !event.getModifierState("AltGraph"));

// The control that the held keys mean.
class Keys {
  constructor({ keys, idle, exclusive }, element) {
    Object.assign(this, { idle, exclusive, held: new Map(), buttons: new Map() });
    this.down = new Map(); // what a key of the keyboard meant as it went down
    this.controls = new Map(keys.map(({ key, control }) => [key, control]));
    for (const { key, label } of keys) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = label;
      button.dataset.key = key;
      const press = (event) => {
        event.preventDefault();
        this.press(key);
      };
      button.addEventListener("pointerdown", press);
      for (const end of ["pointerup", "pointerleave", "pointercancel"]) {
        button.addEventListener(end, () => this.release(key));
      }
      this.held.set(key, false);
      this.buttons.set(key, button);
      element.append(button);
    }
    addEventListener("keydown", (event) => {
      const key = this.meant(event);
      if (browsers(event) || !this.controls.has(key) || event.target.type === "range") return;
      event.preventDefault();
      this.down.set(event.code, key);
      this.press(key);
    });
    addEventListener("keyup", (event) => this.release(this.down.get(event.code)));
    addEventListener("blur", () => [...this.held.keys()].forEach((key) => this.release(key)));
  }

  // The key of an event. Enter and Space, where the game has no use for them, press the
  // button that has the focus.
  meant(event) {
    const key = plain(event.key);
    const presses = ["Enter", " "].includes(key) && !this.controls.has(key);
    return (presses && event.target.dataset?.key) || key;
  }

  press(key) {
    this.mark(key, true);
  }

  release(key) {
    if (this.controls.has(key)) this.mark(key, false);
  }

  mark(key, held) {
    this.held.delete(key); // the key pressed last is last
    this.held.set(key, held);
    this.buttons.get(key).classList.toggle("held", held);
  }

  control() {
    const held = [...this.held].filter(([, down]) => down).map(([key]) => this.controls.get(key));
    if (held.length === 0) return this.idle;
    if (this.exclusive) return held.at(-1);
    return this.idle.map((idle, place) => {
      const sum = held.reduce((total, control) => total + control[place] - idle, idle);
      return Math.max(-1, Math.min(1, sum));
    });
  }
}

// The page

const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

async function play() {
  const world = await loadWorld();
  const { game } = world;
  const dreams = new Dreams(world);
  const keys = new Keys(game.hands, $("keys"));
  const canvases = [$("yours"), $("controllers")];
  const [overs, scores] = [".over", ".score"].map((name) => [...document.querySelectorAll(name)]);
  const [temperature, speed, steers] = [$("temperature"), $("speed"), $("steers")];
  const told = (input, text) => {
    document.querySelector(`output[for=${input.id}]`).textContent = text;
  };
  let beginning = true;

  $("about").textContent =
    `${game.title}: a model of the game dreams it; the game itself is not here.`;
  temperature.min = Math.min(temperature.min, game.temperature);
  temperature.max = Math.max(temperature.max, game.temperature);
  temperature.value = game.temperature;
  const show = () => {
    told(temperature, Number(temperature.value).toFixed(2));
    told(speed, `${2 ** Number(speed.value)}×`);
    $("hand").textContent = steers.checked ? "The controller, for you" : "You";
  };
  for (const input of [temperature, speed, steers]) {
    input.addEventListener("input", show);
    input.addEventListener("pointerup", () => input.blur()); // the arrows steer again
  }
  $("reset").addEventListener("click", () => { beginning = true; });
  addEventListener("keydown", (event) => {
    if (plain(event.key) === "r" && !browsers(event)) beginning = true;
  });
  show();

  for (;;) {
    const start = performance.now();
    if (beginning) {
      beginning = false;
      dreams.begin(Math.floor(Math.random() * 2 ** 32));
    } else if (!document.hidden && dreams.over.includes(false)) {
      const steer = steers.checked ? null : keys.control();
      document.body.dataset.control = String(steer);
      await dreams.step(steer, Number(temperature.value));
    }
    await dreams.draw(canvases);
    dreams.scores.forEach((score, row) => {
      scores[row].textContent = score !== 0 && Math.abs(score) < 0.1
        ? score.toPrecision(2) : score.toFixed(Math.abs(score) < 10 ? 2 : 0);
      overs[row].hidden = !dreams.over[row];
      overs[row].textContent = dreams.ended[row] ? "The end" : "As long as a dream lasts";
    });
    Object.assign(document.body.dataset, { steps: dreams.steps, over: dreams.over.join() });
    $("state").textContent = dreams.over.includes(false)
      ? `${dreams.steps} of ${game.max_steps} steps` : "R, or the button: a new dream";
    const pause = 1000 / (game.steps_per_second * 2 ** Number(speed.value));
    await wait(Math.max(0, pause - (performance.now() - start)));
  }
}

play().catch((error) => {
  $("state").textContent = `The page cannot play: ${error.message}`;
  throw error;
});
