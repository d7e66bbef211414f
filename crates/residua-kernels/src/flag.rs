//! Whether something holds: known where a kernel is compiled, or looked up while it runs.

/// [`Always`], [`Never`], or a `bool` that is looked up. A branch at every vector costs a few per cent, even if it is always
/// foreseen; a kernel for every combination takes its time to compile.
pub(crate) trait Flag: Copy + Sync {
    fn holds(self) -> bool;
}

/// Known to hold.
#[derive(Clone, Copy)]
pub(crate) struct Always;

/// Known not to hold.
#[derive(Clone, Copy)]
pub(crate) struct Never;

impl Flag for Always {
    #[inline(always)]
    fn holds(self) -> bool {
        true
    }
}

impl Flag for Never {
    #[inline(always)]
    fn holds(self) -> bool {
        false
    }
}

impl Flag for bool {
    #[inline(always)]
    fn holds(self) -> bool {
        self
    }
}

/// Compiles `work` for both values of each of the variables, which are of type `bool` outside and known inside.
macro_rules! for_flags {
    ([], $work:expr) => {
        $work
    };
    ([$flag:ident $(, $others:ident)*], $work:expr) => {
        if $flag {
            let $flag = $crate::flag::Always;
            $crate::flag::for_flags!([$($others),*], $work)
        } else {
            let $flag = $crate::flag::Never;
            $crate::flag::for_flags!([$($others),*], $work)
        }
    };
}
pub(crate) use for_flags;
