// The samplers ddim and dpmpp_2m, as in ccdiff.diffusion.samplers: from noise to image.
//
// A level is [log_snr, alpha, sigma], x_t = alpha x0 + sigma eps, and images are Float32Arrays.
// `denoise(x, level)` gives a promise of x0_hat. The levels fall from noise to t = 0.
"use strict";

// DDIM at eta = 0: Song et al., 2021 (arXiv:2010.02502), eq. 12.
function ddim(x, x0, now, after) {
  const [, alpha, sigma] = now, [, alphaNext, sigmaNext] = after;
  return x.map((value, i) => alphaNext * x0[i] + sigmaNext * (value - alpha * x0[i]) / sigma);
}

// DPM-Solver++(2M): Lu et al., 2022 (arXiv:2211.01095), algorithm 2. The last step is of first order.
function dpmpp_2m(x, x0, now, after, past, last) {
  const h = (after[0] - now[0]) / 2;
  let middle = x0;
  if (past && !last) {
    const before = (now[0] - past.level[0]) / 2;
    // Times beyond the clip of log_snr share one noise level: nothing to extrapolate from.
    if (before !== 0) middle = x0.map((value, i) => value + h / (2 * before) * (value - past.x0[i]));
  }
  const shrink = after[2] / now[2], gain = -after[1] * Math.expm1(-h);
  return x.map((value, i) => shrink * value + gain * middle[i]);
}

const STEPS_OF = { ddim, dpmpp_2m };

// From standard normal noise to an image, nominally in [-1, 1].
async function sample(name, denoise, levels, noise, onStep = () => {}) {
  const [, alpha, sigma] = levels[0];
  const std = Math.sqrt(alpha * alpha + sigma * sigma);
  let x = noise.map((value) => std * value), past = null;
  for (let i = 0; i + 1 < levels.length; i++) {
    const x0 = await denoise(x, levels[i]);
    x = STEPS_OF[name](x, x0, levels[i], levels[i + 1], past, i + 2 === levels.length);
    past = { level: levels[i], x0 };
    await onStep(i + 1, x, x0);
  }
  return x;
}

// Standard normal numbers of a seed: mulberry32 and Box-Muller.
function normal(seed, count) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
  return Float32Array.from({ length: count }, () =>
    Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}

// Classifier-free guidance (Ho & Salimans, 2022), one call of the graph with a batch of one or two.
function denoiser(session, settings, label, scale) {
  const [channels, height, width] = settings.shape, size = channels * height * width;
  const n = scale === 1 ? 1 : 2;
  return async (x, level) => {
    const images = new Float32Array(n * size);
    for (let i = 0; i < n; i++) images.set(x, i * size);
    const given = {
      x_t: new ort.Tensor("float32", images, [n, channels, height, width]),
      log_snr: new ort.Tensor("float32", new Float32Array(n).fill(level[0]), [n]),
      label: new ort.Tensor("int64", new BigInt64Array(n).fill(BigInt(label)), [n]),
      hidden: new ort.Tensor("bool", Uint8Array.from([0, 1].slice(0, n)), [n]),
    };
    const feeds = Object.fromEntries(session.inputNames.map((name) => [name, given[name]]));
    const out = (await session.run(feeds)).x0_hat.data;
    const x0 = Float32Array.from({ length: size }, (_, i) =>
      n === 1 ? out[i] : out[size + i] + scale * (out[i] - out[size + i]));
    return settings.clip ? x0.map((value) => Math.min(1, Math.max(-1, value))) : x0;
  };
}

if (typeof module !== "undefined") module.exports = { sample, normal };
