//! No stack unwinding in the release binary: these stand in for the toolchain's libunwind.
//!
//! A panic aborts there and the binary carries no symbols, so a backtrace could name nothing. With
//! `_Unwind_Backtrace` known to visit no frame, the linker drops std's DWARF reader and libunwind
//! with it: more than a third of the file. A panic still prints its message and place.
//!
//! Contract: only in release builds for musl, where panics abort; test programs, which unwind,
//! use the real ones. The rest are named by std's personality routine, which nothing can call
//! when nothing is thrown; each aborts.
//!
//! # Safety
//! The names are those of the C unwinding interface, and nothing else defines them: libunwind is
//! then not linked, and a toolchain that wants more of it fails to link.

#![allow(unsafe_code, reason = "owns system calls")]

use std::ffi::{c_int, c_void};

/// `_URC_END_OF_STACK`: there is no further frame.
const END_OF_STACK: c_int = 5;

#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_visit: *const c_void, _argument: *mut c_void) -> c_int {
    END_OF_STACK
}

/// Defines functions that abort; their arguments don't matter then.
macro_rules! never_called {
    ($($name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $name() -> ! {
                std::process::abort()
            }
        )*
    };
}

never_called! {
    _Unwind_GetDataRelBase
    _Unwind_GetIP
    _Unwind_GetIPInfo
    _Unwind_GetLanguageSpecificData
    _Unwind_GetRegionStart
    _Unwind_GetTextRelBase
    _Unwind_Resume
    _Unwind_SetGR
    _Unwind_SetIP
}
