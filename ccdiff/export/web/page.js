// The page: choices, a button, pictures that sharpen as they are drawn.
"use strict";

const $ = (id) => document.getElementById(id);
const said = (text) => { $("said").textContent = text; };

function paint(canvas, x) {
  const [channels, height, width] = SETTINGS.shape;
  const pixels = new ImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) {
      const value = x[(channels === 3 ? c : 0) * height * width + i];
      pixels.data[4 * i + c] = Math.round((value + 1) * 127.5);
    }
    pixels.data[4 * i + 3] = 255;
  }
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

function option(select, value, text = value) {
  select.append(new Option(text, value));
}

async function draw(session) {
  const name = $("sampler").value, label = Number($("label").value);
  const levels = SETTINGS.levels[name][$("steps").value], scale = Number($("scale").value);
  const size = SETTINGS.shape.reduce((a, b) => a * b), seed = Number($("seed").value);
  $("draw").disabled = true;
  $("pictures").replaceChildren();
  const start = performance.now();
  for (let j = 0; j < Number($("number").value); j++) {
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${SETTINGS.labels[label]}, image ${j + 1}`);
    $("pictures").append(canvas);
    const show = async (i, x, x0) => {
      paint(canvas, i + 1 === levels.length ? x : x0);
      await new Promise(requestAnimationFrame);
    };
    const denoise = denoiser(session, SETTINGS, label, scale);
    await sample(name, denoise, levels, normal(1000003 * seed + 97 * label + j, size), show);
  }
  said(`drawn in ${((performance.now() - start) / 1000).toFixed(1)} s`);
  $("draw").disabled = false;
}

async function main() {
  SETTINGS.labels.forEach((text, i) => option($("label"), i, text));
  for (const name of Object.keys(SETTINGS.levels)) option($("sampler"), name);
  for (const steps of Object.keys(SETTINGS.levels.ddim)) option($("steps"), steps);
  $("sampler").value = "dpmpp_2m";
  $("steps").value = 16;
  $("scale").disabled = !SETTINGS.guided;
  if (!SETTINGS.guided) $("scale").title = "the model was trained without hidden labels";
  ort.env.wasm.numThreads = 1; // More take headers that a plain static server does not send.
  const session = await ort.InferenceSession.create("model.onnx");
  $("draw").disabled = false;
  said("ready");
  $("draw").onclick = () => draw(session).catch((error) => {
    said(`this failed: ${error.message}`);
    $("draw").disabled = false;
  });
}

main().catch((error) => said(location.protocol === "file:"
  ? "A browser reads no model from file://. Serve the folder: python -m http.server"
  : `the model could not be opened: ${error.message}`));
