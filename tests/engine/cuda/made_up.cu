// A made-up world for tests, small enough to be written twice: here, and in made_up.py. It depends on all of its inputs.

extern "C" __global__ void conditioner(float* modulation, const float* c_noise, const float* c_noise_cond,
                                       const float* action, unsigned actions, unsigned columns, unsigned count) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const unsigned row = i / columns, column = i % columns;
    float sum = 0.0f;
    for (unsigned k = 0; k < actions; ++k) sum += action[k] * static_cast<float>(k % 7);
    modulation[i] = c_noise[row] + c_noise_cond[row] * 0.5f + sum * 0.125f + static_cast<float>(column) * 0.25f;
}

// `low_res` and `enlarged_noise` only with factor > 0. `count`: of pixels of the image.
extern "C" __global__ void network(float* denoised, const float* x, const float* history, const float* modulation,
                                   const float* c, const float* low_res, const float* enlarged_noise,
                                   unsigned channels, unsigned columns, unsigned width, unsigned factor,
                                   unsigned count) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    for (unsigned channel = 0; channel < 3; ++channel) {
        const unsigned at = channel * count + i;
        float raw = history[(channels - 3) * count + at] * modulation[0] + history[at] * 0.25f;
        raw = raw + x[at] * c[0] + modulation[columns - 1] * 0.0625f;
        if (factor) {
            const unsigned row = i / width / factor, column = i % width / factor, small = width / factor;
            raw = raw + low_res[channel * (count / factor / factor) + row * small + column] + enlarged_noise[at];
        }
        float d = x[at] * c[1] + raw * c[2];
        d = d < -1.0f ? -1.0f : d > 1.0f ? 1.0f : d;  // NaN stays NaN
        denoised[at] = floorf((d + 1.0f) / 2.0f * 255.0f) / 255.0f * 2.0f - 1.0f;
    }
}
