#include "kernels/ray_march.h"

#include <algorithm>
#include <vector>

#include "bindings/module.h"
#include "parallel.h"

namespace polyfield {
namespace {

constexpr int64_t block_rays = 256;

// Marches batches of rays, in two calls because the caller allocates what comes out. Keeps its workspaces.
class RayMarcher {
 public:
  // Settings that hold for many batches.
  void configure(const py::sequence& center, const py::sequence& inverse_half, int32_t levels, int32_t resolution,
                 Address distance, const py::sequence& step) {
    for (int a = 0; a < 3; ++a) {
      grid_.center[a] = center[a].cast<float>();
      grid_.inverse_half[a] = inverse_half[a].cast<float>();
    }
    grid_.levels = levels;
    grid_.resolution = resolution;
    grid_.distance = at<const uint8_t>(distance);
    float* const fields[] = {&step_.step,   &step_.cone,   &step_.largest, &step_.grow,
                             &step_.flat,   &step_.u_grow, &step_.u_flat};
    for (size_t i = 0; i < std::size(fields); ++i) *fields[i] = step[i].cast<float>();
  }

  // Fills offsets [rays + 1]; returns how many rays, from the first on, have their samples within max_total.
  int64_t march(Address origins, Address directions, Address near, Address far, Address jitter, int64_t rays,
                int64_t max_samples, int64_t max_total, Address offsets) {
    rays_ = {at<const float>(origins), at<const float>(directions), at<const float>(near), at<const float>(far),
             at<const float>(jitter)};
    max_samples = std::min(max_samples, max_total);
    const int64_t blocks = (rays + block_rays - 1) / block_rays;
    if (static_cast<int64_t>(runs_.size()) < blocks) runs_.resize(blocks);
    if (static_cast<int64_t>(spans_.size()) < rays) {
      spans_.resize(rays);
      run_counts_.resize(rays);
    }
    offsets_ = at<int64_t>(offsets);
    int64_t* counts = offsets_ + 1;
    parallel_tasks(blocks, [&](int64_t block, int) {
      auto& runs = runs_[block];
      if (runs.empty()) runs.resize(8 * block_rays);
      const int64_t end = std::min(rays, (block + 1) * block_rays);
      int64_t used = 0;
      for (int64_t next = block * block_rays;;) {
        next = ray_march().march(rays_, grid_, step_, max_samples, next, end, spans_.data(), run_counts_.data(), counts,
                                 runs.data(), static_cast<int64_t>(runs.size()), &used);
        if (next == end) break;
        runs.resize(2 * runs.size());
      }
    });
    offsets_[0] = 0;
    for (int64_t r = 0; r < rays; ++r) {
      counts[r] += offsets_[r];
      if (counts[r] > max_total) {
        kept_ = r;
        return r;
      }
    }
    kept_ = rays;
    return rays;
  }

  void fill(Address positions, Address t0, Address t1, Address ray_ids) {
    const MarchSamples out = {at<float>(positions), at<float>(t0), at<float>(t1), at<int32_t>(ray_ids)};
    const int64_t blocks = (kept_ + block_rays - 1) / block_rays;
    parallel_tasks(blocks, [&](int64_t block, int) {
      ray_march().fill(rays_, step_, block * block_rays, std::min(kept_, (block + 1) * block_rays), spans_.data(),
                       run_counts_.data(), offsets_, runs_[block].data(), out);
    });
  }

  void cells(Address points, int64_t count, Address cells) const {
    parallel_for(count, 1024, [&](int64_t begin, int64_t end, int) {
      ray_march().cells(grid_, at<const float>(points), begin, end, at<int64_t>(cells));
    });
  }

 private:
  MarchGrid grid_ = {};
  MarchStep step_ = {};
  MarchRays rays_ = {};
  int64_t* offsets_ = nullptr;
  int64_t kept_ = 0;
  std::vector<RaySpan> spans_;
  std::vector<int32_t> run_counts_;
  std::vector<std::vector<MarchRun>> runs_;
};

constexpr int64_t block_cells = 1 << 14;

// Mean of the values that are neither negative (carved away) nor infinite (not yet seen); 0 of none.
double mean_seen(const float* values, int64_t cells) {
  const int64_t blocks = (cells + block_cells - 1) / block_cells;
  std::vector<double> sums(blocks), counts(blocks);
  parallel_for(blocks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t block = begin; block < end; ++block) {
      double sum = 0., count = 0.;
      const int64_t stop = std::min(cells, (block + 1) * block_cells);
      for (int64_t i = block * block_cells; i < stop;) {
        float some = 0.f, seen = 0.f;  // short float sums, so that the loop fills vectors
        for (const int64_t part = std::min(stop, i + 64); i < part; ++i) {
          const bool counts_here = values[i] >= 0.f && values[i] < 3.4e38f;
          some += counts_here ? values[i] : 0.f;
          seen += counts_here ? 1.f : 0.f;
        }
        sum += some;
        count += seen;
      }
      sums[block] = sum;
      counts[block] = count;
    }
  });
  double sum = 0., count = 0.;
  for (int64_t block = 0; block < blocks; ++block) {
    sum += sums[block];
    count += counts[block];
  }
  return count > 0. ? sum / count : 0.;
}

// Marks cells above the threshold with 1; returns how many.
int64_t mark(const float* values, float threshold, bool from_equal, int64_t cells, uint8_t* occupied) {
  const int64_t blocks = (cells + block_cells - 1) / block_cells;
  std::vector<int64_t> counts(blocks);
  parallel_for(blocks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t stop = std::min(cells, (block + 1) * block_cells);
      int32_t count = 0;
      for (int64_t i = block * block_cells; i < stop; ++i) {
        const bool here = from_equal ? values[i] >= threshold : values[i] > threshold;
        occupied[i] = here;
        count += here;
      }
      counts[block] = count;
    }
  });
  int64_t count = 0;
  for (const int64_t c : counts) count += c;
  return count;
}

// distance [levels, n, n, n] from values of the same shape: occupied where a value exceeds `threshold`; if none does,
// all that are not carved away; if all are, everything. A cell of a coarse level that lies over the next finer level
// is an obstacle when one of the eight finer cells below it is: jumps across it must stop there. Returns the number
// of occupied cells.
int64_t occupancy_distances(Address values_at, float threshold, int64_t levels, int64_t n, Address distance_at) {
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
    ray_march().distances(obs + level * cells, n, distance + level * cells);
  });
  return count;
}

// Writes the numbers of cells with distance 0; returns how many there are (`ids` may be null: only count).
int64_t occupancy_cells(Address distance_at, int64_t cells, Address ids_at) {
  const uint8_t* distance = at<const uint8_t>(distance_at);
  int64_t* ids = at<int64_t>(ids_at);
  int64_t count = 0;
  for (int64_t i = 0; i < cells; ++i) {
    if (distance[i] != 0) continue;
    if (ids != nullptr) ids[count] = i;
    ++count;
  }
  return count;
}

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(ray_march) {
  py::class_<RayMarcher>(m, "RayMarcher")
      .def(py::init<>())
      .def("configure", &RayMarcher::configure)
      .def("march", &RayMarcher::march, unlocked())
      .def("fill", &RayMarcher::fill, unlocked())
      .def("cells", &RayMarcher::cells, unlocked());
  m.def("occupancy_mean", [](Address values, int64_t cells) { return mean_seen(at<const float>(values), cells); },
        unlocked());
  m.def("occupancy_distances", &occupancy_distances, unlocked());
  m.def("occupancy_cells", &occupancy_cells, unlocked());
}
