//! Which signals there are, and how they come in.

#[cfg(unix)]
pub(crate) use self::unix::listen;
#[cfg(unix)]
pub(super) use self::unix::{Signal, end_by};

#[cfg(not(unix))]
pub(crate) use self::keyboard::listen;
#[cfg(not(unix))]
pub(super) use self::keyboard::{Signal, end_by};

#[cfg(unix)]
mod unix {
    use std::fs;
    use std::io::{self, IsTerminal};
    use std::process;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use anyhow::Context;
    use signal_hook::consts::{SIGABRT, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    use crate::interrupt::heard;

    /// Ctrl-C, what schedulers of jobs and containers send, and the end of a terminal.
    const ENDING: [i32; 5] = [SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2];

    /// A signal that asks the process to end.
    #[derive(Clone, Copy)]
    pub(in crate::interrupt) struct Signal(i32);

    impl Signal {
        /// Whether it is Ctrl-C at a terminal.
        pub(in crate::interrupt) fn is_from_keyboard(self) -> bool {
            self.0 == SIGINT && (io::stdin().is_terminal() || io::stderr().is_terminal())
        }
    }

    /// Begins to listen to signals, but for those that whoever started the process has it ignore, as `nohup` does.
    pub(crate) fn listen() -> anyhow::Result<()> {
        // Writing beyond a quota or a limit of files' sizes is then an error as any other.
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).context(CANNOT)?;
        // Where memory gives out the standard library says so in a line and aborts: that is an error, and no fault to be looked into.
        let always = Arc::new(AtomicBool::new(true));
        signal_hook::flag::register_conditional_shutdown(SIGABRT, 1, always).context(CANNOT)?;
        let ignored = ignored();
        let listened = ENDING.into_iter().filter(|&signal| ignored & bit(signal) == 0);
        let mut signals = Signals::new(listened).context(CANNOT)?;
        let listen = move || signals.forever().for_each(|signal| heard(Signal(signal)));
        thread::Builder::new().name("residua-signals".to_owned()).spawn(listen).context(CANNOT)?;
        Ok(())
    }

    const CANNOT: &str = "cannot listen to signals";

    /// Ends the process as the signal does that nobody listens to.
    pub(in crate::interrupt) fn end_by(Signal(signal): Signal) -> ! {
        // The first process of a container is not ended by such a one.
        if process::id() != 1 {
            // Where that fails, the exit code is what shells make of it.
            let _ = emulate_default_handler(signal);
        }
        process::exit(128 + signal)
    }

    /// The signals that this process was started to ignore, a bit each, where the system tells (Linux); those that it ignores already
    /// are among them.
    fn ignored() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map_or(0, mask)
    }

    fn mask(text: &str) -> u64 {
        u64::from_str_radix(text.trim(), 16).unwrap_or(0)
    }

    fn bit(signal: i32) -> u64 {
        1 << (signal - 1)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_systems_mask_is_read() {
            assert_eq!(mask("\t0000000000001001"), bit(SIGHUP) | bit(13));
            assert_eq!(mask(""), 0);
        }
    }
}

#[cfg(not(unix))]
mod keyboard {
    use anyhow::Context;

    use crate::interrupt::heard;

    /// Ctrl-C.
    #[derive(Clone, Copy)]
    pub(in crate::interrupt) struct Signal;

    impl Signal {
        pub(in crate::interrupt) fn is_from_keyboard(self) -> bool {
            true
        }
    }

    pub(crate) fn listen() -> anyhow::Result<()> {
        ctrlc::set_handler(|| heard(Signal)).context("cannot listen to Ctrl-C")
    }

    pub(in crate::interrupt) fn end_by(Signal: Signal) -> ! {
        std::process::exit(130)
    }
}
