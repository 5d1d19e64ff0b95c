//! Arguments, configuration, log, then the reactor. Nothing else lives here.

fn main() -> std::process::ExitCode {
    aikv::start::main()
}
