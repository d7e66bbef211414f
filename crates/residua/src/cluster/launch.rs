//! Whether this process is one of several that MPI has started, as far as the environment tells.

use std::env;

/// A process among those that `mpirun` or `srun` has started together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Its number among them.
    pub rank: usize,
}

/// Variables of the number of a process and of the number of all processes: Open MPI's, and those of MPICH, Intel MPI and Slurm.
const NUMBERED: [(&str, &str); 2] =
    [("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE")];

/// The variable of the number of a process where MPI alone knows how many there are.
const RANK_ALONE: &str = "PMIX_RANK";

impl Launch {
    /// That of this process; none where it has been started by itself, or where it is the only one.
    pub fn of_this_process() -> Option<Self> {
        Self::of(|name| env::var(name).ok())
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name| variable(name)?.parse::<usize>().ok();
        for (rank, ranks) in NUMBERED {
            if let (Some(rank), Some(ranks)) = (number(rank), number(ranks)) {
                return (ranks > 1).then_some(Self { rank });
            }
        }
        number(RANK_ALONE).map(|rank| Self { rank })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_are_known_by_what_they_say() {
        let of = |variables: &[(&str, &str)]| {
            let found = |name: &str| variables.iter().find(|(known, _)| *known == name);
            Launch::of(|name| found(name).map(|(_, value)| (*value).to_owned())).map(|launch| launch.rank)
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("OMPI_COMM_WORLD_RANK", "3"), ("OMPI_COMM_WORLD_SIZE", "4")]), Some(3));
        assert_eq!(of(&[("PMI_RANK", "0"), ("PMI_SIZE", "2")]), Some(0));
        assert_eq!(of(&[("PMIX_RANK", "1")]), Some(1));
        // One process is alone, and what is no number says nothing.
        let alone = [("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "1"), ("PMIX_RANK", "0")];
        assert_eq!(of(&alone), None);
        assert_eq!(of(&[("PMI_RANK", "x"), ("PMI_SIZE", "2")]), None);
    }
}
