#include "kernels/ray_march.h"

#include <algorithm>
#include <array>
#include <vector>

#include <pybind11/stl.h>

#include "bindings/module.h"
#include "parallel.h"

namespace polyfield {
namespace {

constexpr int64_t block_rays = 256;

MarchLattice lattice_of(const std::array<float, 3>& center, const std::array<float, 3>& inverse_half, int32_t levels,
                        int32_t resolution, Address distance, const std::array<float, 7>& step) {
  MarchLattice lattice = {};
  std::copy(center.begin(), center.end(), lattice.grid.center);
  std::copy(inverse_half.begin(), inverse_half.end(), lattice.grid.inverse_half);
  lattice.grid.levels = levels;
  lattice.grid.resolution = resolution;
  lattice.grid.distance = at<const uint8_t>(distance);
  lattice.step = {step[0], step[1], step[2], step[3], step[4], step[5], step[6]};
  return lattice;
}

// Marches batches of rays, in two calls because the caller allocates what comes out. Keeps its workspaces.
class RayMarcher {
 public:
  // What holds for many batches.
  void configure(const MarchLattice& lattice) { lattice_ = lattice; }

  // `limits` is a MarchStretch, member by member. Fills offsets [rays + 1]; returns how many rays, from the first on, have their samples within max_total.
  int64_t march(Address origins, Address directions, Address near, Address far, Address jitter, int64_t rays,
                const py::tuple& limits, int64_t max_total, Address offsets) {
    const MarchStretch stretch = {at<const int32_t>(limits[0].cast<Address>()),
                                  std::min(limits[1].cast<int64_t>(), max_total), limits[2].cast<float>(),
                                  at<const float>(limits[3].cast<Address>()), at<int32_t>(limits[4].cast<Address>())};
    const py::gil_scoped_release let_others_run;
    rays_ = {at<const float>(origins), at<const float>(directions), at<const float>(near), at<const float>(far),
             at<const float>(jitter)};
    const int64_t blocks = (rays + block_rays - 1) / block_rays;
    if (static_cast<int64_t>(runs_.size()) < blocks) runs_.resize(blocks);
    if (static_cast<int64_t>(spans_.size()) < rays) {
      spans_.resize(rays);
      first_run_.resize(rays);
    }
    offsets_ = at<int64_t>(offsets);
    int64_t* counts = offsets_ + 1;
    parallel_tasks(blocks, [&](int64_t block, int) {
      auto& runs = runs_[block];
      if (runs.empty()) runs.resize(8 * block_rays);
      while (!ray_march().march(rays_, lattice_.grid, lattice_.step, stretch, block * block_rays,
                                std::min(rays, (block + 1) * block_rays), spans_.data(), first_run_.data(), counts,
                                runs.data(), static_cast<int64_t>(runs.size())))
        runs.resize(2 * runs.size());
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
      ray_march().fill(rays_, lattice_.step, block * block_rays, std::min(kept_, (block + 1) * block_rays), spans_.data(),
                       first_run_.data(), offsets_, runs_[block].data(), out);
    });
  }

  void cells(Address points, int64_t count, Address cells) const {
    parallel_for(count, 1024, [&](int64_t begin, int64_t end, int) {
      ray_march().cells(lattice_.grid, at<const float>(points), begin, end, at<int64_t>(cells));
    });
  }

 private:
  MarchLattice lattice_ = {};
  MarchRays rays_ = {};
  int64_t* offsets_ = nullptr;
  int64_t kept_ = 0;
  std::vector<RaySpan> spans_;
  std::vector<int32_t> first_run_;
  std::vector<std::vector<MarchRun>> runs_;
};

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(ray_march) {
  py::class_<MarchLattice>(m, "MarchLattice").def(py::init(&lattice_of));
  py::class_<RayMarcher>(m, "RayMarcher")
      .def(py::init<>())
      .def("configure", &RayMarcher::configure)
      .def("march", &RayMarcher::march)
      .def("fill", &RayMarcher::fill, unlocked())
      .def("cells", &RayMarcher::cells, unlocked());
}
