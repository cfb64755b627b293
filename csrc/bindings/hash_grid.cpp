#include "bindings/hash_grid.h"

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace polyfield {
namespace {

// Asks for 2 MiB pages below `bytes` at `address`, of which the contents are lost: random reads then miss the address
// cache less often. Memory that was used before has its small pages, and would keep them if they were not given back.
// A wish: the system may have none, and not every system knows it.
void advise_huge_pages([[maybe_unused]] Address address, [[maybe_unused]] int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const Address page = static_cast<Address>(sysconf(_SC_PAGESIZE));
  const Address begin = (address + page - 1) / page * page, end = (address + bytes) / page * page;
  if (begin < end && madvise(at<void>(begin), end - begin, MADV_HUGEPAGE) == 0)
    madvise(at<void>(begin), end - begin, MADV_DONTNEED);
#endif
}

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(hash_grid) {
  m.def("advise_huge_pages", &advise_huge_pages);
  m.def(
      "hash_grid_forward",
      [](Address levels, int level_count, int dim, int features, bool smooth, int64_t points, Address x, Address along,
         Address table, Address out) {
        hash_grid().forward(hash_grid_job(levels, level_count, dim, features, smooth, points, x, along),
                            at<const float>(table), at<float>(out));
      },
      unlocked());
  m.def(
      "hash_grid_scatter",
      [](Address levels, int level_count, int dim, int features, bool smooth, int64_t points, Address x, Address along,
         Address upstream, int64_t feature_stride, int64_t point_stride, Address values, Address touched) {
        hash_grid().scatter(hash_grid_job(levels, level_count, dim, features, smooth, points, x, along),
                            {at<const float>(upstream), feature_stride, point_stride}, at<float>(values),
                            at<uint8_t>(touched));
      },
      unlocked());
}
