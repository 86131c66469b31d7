//! The `api2bq` program. Everything is in the library; start reading at `lib.rs`.

fn main() -> std::process::ExitCode {
    api2bq::cli::run()
}
