//! The `api2bq` program. Everything is in the library; start reading at `lib.rs`.

#[cfg(feature = "count-allocations")]
#[global_allocator]
static COUNTED: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

fn main() -> std::process::ExitCode {
    api2bq::cli::run()
}
