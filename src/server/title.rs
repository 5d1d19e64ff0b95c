//! The title of the process in `ps`, from `proc-title-template`.

use super::Server;
use crate::sys::process;

impl Server {
    /// Shows the title, if `set-proc-title` allows it.
    pub fn set_process_title(&self) {
        if self.config.set_proc_title {
            process::set_title(&self.process_title());
        }
    }

    fn process_title(&self) -> String {
        let config = &self.config;
        let address = match config.bind.first() {
            Some(bind) if config.port > 0 => format!("{}:{}", bind.trim_start_matches('-'), config.port),
            _ => config.unixsocket.clone(),
        };
        let port = config.port.to_string();
        let variables = [
            ("{title}", self.process.called_as.as_str()),
            ("{listen-addr}", address.as_str()),
            ("{server-mode}", ""),
            ("{port}", port.as_str()),
            ("{tls-port}", "0"),
            ("{unixsocket}", config.unixsocket.as_str()),
            ("{config-file}", self.process.config_file.as_str()),
        ];
        let expand = |text: String, (name, value): (&str, &str)| text.replace(name, value);
        variables.into_iter().fold(config.proc_title_template.clone(), expand).trim_end().to_string()
    }
}
