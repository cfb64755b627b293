// Forward pass: every panel of 64 points goes through all layers while it lies in the first cache.
#pragma once

#include "mlp_network.h"
#include "parallel.h"

namespace polyfield {
namespace POLYFIELD_ISA {

// Multiplications and points of a task: small enough to share out evenly, large against the cost of a hand-out.
constexpr double FORWARD_WORK = 1e7;
constexpr int64_t FORWARD_TASK = 1024;

// Scratch of one thread: the input panel, two panels of activations in turn, and a float panel for input and output.
template <class E>
struct ForwardScratch {
  word* acts[MAX_LAYERS];
  float* slopes[MAX_LAYERS] = {};
  float* stage;

  ForwardScratch(const Network<E>& net, Cutter& memory) {
    int64_t widest = 0;
    for (int l = 1; l < net.count; ++l) widest = net.panel_words(l) > widest ? net.panel_words(l) : widest;
    acts[0] = memory.cut<word>(net.panel_words(0));
    word* turns[2] = {memory.cut<word>(widest), memory.cut<word>(widest)};
    for (int l = 1; l < net.count; ++l) acts[l] = turns[l % 2];
    const int64_t in = net.input_rows(), out = net.output_rows();
    stage = memory.cut<float>((in > out ? in : out) * PANEL);
  }
};

template <class E>
void forward_with(const MlpShape& shape, const MlpInput& input, const float* weights, PointMatrix<float> y, int64_t points,
                  const MlpSaved& saved) {
  static thread_local Arena arena;
  Network<E> net(shape);
  const int threads = thread_count();
  Cutter counted{nullptr};
  net.cut_weights(counted, false);
  Cutter counted_scratch{nullptr};
  (void)ForwardScratch<E>(net, counted_scratch);
  const int64_t scratch_bytes = round_up(counted_scratch.used, 4096) + 64 * 5;  // threads and panels in different sets
  Cutter memory{arena.take(counted.used + threads * scratch_bytes)};
  net.cut_weights(memory, false);
  net.pack(weights, false);
  char* scratch = memory.base + memory.used;

  const int64_t task_points = points_of(net, FORWARD_WORK, FORWARD_TASK), kept_bytes = record_bytes(net);

  parallel_tasks((points + task_points - 1) / task_points, [&](int64_t task, int thread) {
    [[maybe_unused]] TileUse<E::TILES> tiles;
    Cutter own{scratch + thread * scratch_bytes};
    const ForwardScratch<E> s(net, own);
    const int64_t end = (task + 1) * task_points < points ? (task + 1) * task_points : points;
    for (int64_t first = task * task_points; first < end; first += PANEL) {
      const int64_t count = end - first < PANEL ? end - first : PANEL;
      load_input(s.stage, input, first, count);
      clear_rows(s.stage, shape.inputs, net.input_rows());
      Record<E> kept;
      const bool keep = first < saved.points;
      if (keep) kept = Record<E>(net, Cutter{saved.data + first / PANEL * kept_bytes});
      word* const* acts = keep ? kept.acts : s.acts;
      to_words<E>(acts[0], s.stage, net.input_rows());
      run_hidden(net, acts, keep ? kept.slopes : s.slopes);
      const int last = net.count - 1;
      product<E>(Rows{net.layer[last].rows, net.steps(last), 0}, Columns{acts[last], PANEL, 0}, net.outs(last), PANEL,
                 net.steps(last), 1, OutputDone{net.layer[last].padded_bias, s.stage});
      if (shape.output_activation == Activation::sigmoid)
        for (int64_t k = 0; k < shape.outputs * PANEL; k += W) store(s.stage + k, sigmoid(load(s.stage + k)));
      store_matrix(s.stage, y, shape.outputs, first, count);
    }
  });
}

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
