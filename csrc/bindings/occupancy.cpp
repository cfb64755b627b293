#include "kernels/occupancy.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "bindings/module.h"
#include "parallel.h"

namespace polyfield {
namespace {

constexpr int64_t block_cells = 1 << 14;

int64_t blocks_of(int64_t cells) { return (cells + block_cells - 1) / block_cells; }

void pick(uint64_t seed, Address list, int64_t total, int64_t count, Address ids) {
  parallel_for(count, 1024, [&](int64_t begin, int64_t end, int) {
    occupancy().pick(seed, at<const int64_t>(list), total, begin, end, at<int64_t>(ids));
  });
}

void pick_near(uint64_t seed, Address list, int64_t total, Address values, int64_t resolution, int64_t count,
               Address ids) {
  parallel_for(count, 1024, [&](int64_t begin, int64_t end, int) {
    occupancy().pick_near(seed, at<const int64_t>(list), total, at<const float>(values), resolution, begin, end,
                          at<int64_t>(ids));
  });
}

void points(const py::sequence& center, const py::sequence& half_size, int64_t resolution, uint64_t seed, Address ids,
            int64_t count, Address out) {
  CellGrid grid = {};
  for (int a = 0; a < 3; ++a) {
    grid.center[a] = center[a].cast<float>();
    grid.half_size[a] = half_size[a].cast<float>();
  }
  grid.resolution = resolution;
  const py::gil_scoped_release let_others_run;
  parallel_for(count, 1024, [&](int64_t begin, int64_t end, int) {
    occupancy().points(grid, seed, at<const int64_t>(ids), begin, end, at<float>(out));
  });
}

// values[id] decays once for each look, however often it is in `ids`, and rises to the largest density seen; an
// unseen one (infinite) begins at 0. `old` [count] is scratch. In order, by one thread: cells may come twice.
void look(Address values_at, Address ids_at, Address seen_at, int64_t count, float decay, Address old_at) {
  float *values = at<float>(values_at), *old = at<float>(old_at);
  const int64_t* ids = at<const int64_t>(ids_at);
  const float* seen = at<const float>(seen_at);
  for (int64_t i = 0; i < count; ++i) old[i] = values[ids[i]];
  for (int64_t i = 0; i < count; ++i) values[ids[i]] = old[i] < 3.4e38f ? old[i] * decay : 0.f;
  for (int64_t i = 0; i < count; ++i) values[ids[i]] = std::max(values[ids[i]], seen[i]);
}

// Mean of the values that are neither negative (carved away) nor infinite (not yet seen); 0 of none.
double mean_seen(Address values, int64_t cells) {
  const int64_t blocks = blocks_of(cells);
  std::vector<double> sums(blocks), counts(blocks);
  parallel_for(blocks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t b = begin; b < end; ++b)
      occupancy().sum_seen(at<const float>(values), b * block_cells, std::min(cells, (b + 1) * block_cells), &sums[b],
                           &counts[b]);
  });
  double sum = 0., count = 0.;
  for (int64_t b = 0; b < blocks; ++b) {
    sum += sums[b];
    count += counts[b];
  }
  return count > 0. ? sum / count : 0.;
}

int64_t mark(const float* values, float threshold, bool from_equal, int64_t cells, uint8_t* occupied) {
  const int64_t blocks = blocks_of(cells);
  std::vector<int64_t> counts(blocks);
  parallel_for(blocks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t b = begin; b < end; ++b)
      counts[b] = occupancy().mark(values, threshold, from_equal, b * block_cells,
                                   std::min(cells, (b + 1) * block_cells), occupied);
  });
  int64_t count = 0;
  for (const int64_t c : counts) count += c;
  return count;
}

// distance [levels, n, n, n] from values of the same shape: occupied where a value exceeds `threshold`; if none does,
// all that are not carved away; if all are, everything. A cell of a coarse level that lies over the next finer level
// is an obstacle when one of the eight finer cells below it is: jumps across it must stop there. Returns the number
// of occupied cells.
int64_t distances(Address values_at, float threshold, int64_t levels, int64_t n, Address distance_at) {
  const float* values = at<const float>(values_at);
  uint8_t* distance = at<uint8_t>(distance_at);
  const int64_t cells = n * n * n;
  static thread_local std::vector<uint8_t> obstacles;
  obstacles.resize(levels * cells);
  uint8_t* obs = obstacles.data();
  int64_t count = mark(values, threshold, false, levels * cells, obs);
  if (count == 0) count = mark(values, 0.f, true, levels * cells, obs);
  if (count == 0) {
    count = levels * cells;
    std::fill(obs, obs + count, uint8_t{1});
  }
  const int64_t half = n / 2, quarter = n / 4;
  for (int64_t level = 1; level < levels; ++level) {
    const uint8_t* finer = obs + (level - 1) * cells;
    uint8_t* here = obs + level * cells;
    parallel_for(half, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t x = begin; x < end; ++x)
        for (int64_t y = 0; y < half; ++y)
          for (int64_t z = 0; z < half; ++z) {
            uint8_t any = 0;
            for (int64_t corner = 0; corner < 8; ++corner)
              any |= finer[((2 * x + (corner >> 2)) * n + 2 * y + (corner >> 1 & 1)) * n + 2 * z + (corner & 1)];
            here[((quarter + x) * n + quarter + y) * n + quarter + z] = any;
          }
    });
  }
  parallel_tasks(levels, [&](int64_t level, int) {
    occupancy().distances(obs + level * cells, n, distance + level * cells);
  });
  return count;
}

// Writes the numbers of cells that are occupied and not carved away; returns how many there are (`ids` may be null:
// only count).
int64_t cells(Address distance_at, Address values_at, int64_t cells, Address ids_at) {
  const uint8_t* distance = at<const uint8_t>(distance_at);
  const float* values = at<const float>(values_at);
  int64_t* ids = at<int64_t>(ids_at);
  int64_t count = 0;
  for (int64_t i = 0; i < cells; ++i) {
    const void* next = std::memchr(distance + i, 0, cells - i);
    if (next == nullptr) break;
    i = static_cast<const uint8_t*>(next) - distance;
    if (!(values[i] >= 0.f)) continue;
    if (ids != nullptr) ids[count] = i;
    ++count;
  }
  return count;
}

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(occupancy) {
  m.def("occupancy_pick", &pick, unlocked());
  m.def("occupancy_pick_near", &pick_near, unlocked());
  m.def("occupancy_points", &points);
  m.def("occupancy_look", &look, unlocked());
  m.def("occupancy_mean", &mean_seen, unlocked());
  m.def("occupancy_distances", &distances, unlocked());
  m.def("occupancy_cells", &cells, unlocked());
}
