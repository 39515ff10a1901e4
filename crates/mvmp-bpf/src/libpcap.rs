//! The machine's libpcap: found when first asked for, and called to compile, for nothing else.
//!
//! Old versions keep the parser's state in globals, so compiling holds a lock.
#![allow(
    unsafe_code,
    reason = "the room for calling a library that is found at run time"
)]

use std::ffi::{CStr, CString, c_char, c_int, c_uint};
use std::ptr::NonNull;
use std::sync::{Mutex, OnceLock, PoisonError};

use libloading::Library;

use crate::{Error, Instruction};

/// By the name that its binary interface has, newest first; Debian counts it as 0.8, others as 1.
const NAMES: [&str; 3] = ["libpcap.so.0.8", "libpcap.so.1", "libpcap.so"];
/// No netmask, as `tcpdump -r` has none: `ip broadcast` means 255.255.255.255 and 0.0.0.0.
const NETMASK_NONE: u32 = 0;
const OPTIMISE: c_int = 1;

/// `struct bpf_program`.
#[repr(C)]
struct RawProgram {
    length: c_uint,
    instructions: *mut Instruction,
}

/// A `pcap_t`, of which nothing is known here.
enum Handle {}

type OpenDead = unsafe extern "C" fn(c_int, c_int) -> *mut Handle;
type Close = unsafe extern "C" fn(*mut Handle);
type Compile =
    unsafe extern "C" fn(*mut Handle, *mut RawProgram, *const c_char, c_int, u32) -> c_int;
type FreeCode = unsafe extern "C" fn(*mut RawProgram);
type GetError = unsafe extern "C" fn(*mut Handle) -> *mut c_char;
type Version = unsafe extern "C" fn() -> *const c_char;

/// The functions of a library that stays loaded as long as the process lives.
struct Libpcap {
    open_dead: OpenDead,
    close: Close,
    compile: Compile,
    free_code: FreeCode,
    get_error: GetError,
    version: Version,
}

static LIBRARY: OnceLock<Result<Libpcap, String>> = OnceLock::new();
static COMPILING: Mutex<()> = Mutex::new(());

fn library() -> Result<&'static Libpcap, Error> {
    LIBRARY
        .get_or_init(load)
        .as_ref()
        .map_err(|error| Error::NoLibrary(error.clone()))
}

fn load() -> Result<Libpcap, String> {
    let mut missing = String::new();
    for name in NAMES {
        // SAFETY: loading runs libpcap's initialisers; it has none that need anything of us.
        match unsafe { Library::new(name) } {
            Ok(library) => return functions_of(library).map_err(|error| error.to_string()),
            Err(error) if missing.is_empty() => missing = error.to_string(),
            Err(_) => {}
        }
    }
    Err(missing)
}

fn functions_of(library: Library) -> Result<Libpcap, libloading::Error> {
    // SAFETY: the types are those of pcap.h, which have not changed since libpcap 0.8.
    let found = unsafe {
        Libpcap {
            open_dead: *library.get::<OpenDead>(b"pcap_open_dead\0")?,
            close: *library.get::<Close>(b"pcap_close\0")?,
            compile: *library.get::<Compile>(b"pcap_compile\0")?,
            free_code: *library.get::<FreeCode>(b"pcap_freecode\0")?,
            get_error: *library.get::<GetError>(b"pcap_geterr\0")?,
            version: *library.get::<Version>(b"pcap_lib_version\0")?,
        }
    };
    // The functions are used until the process ends.
    std::mem::forget(library);
    Ok(found)
}

/// What libpcap calls itself, for instance "libpcap version 1.10.3".
///
/// # Errors
/// [`Error::NoLibrary`].
pub fn library_version() -> Result<String, Error> {
    let library = library()?;
    // SAFETY: the function takes nothing and gives a string that lives for ever.
    let text = unsafe { CStr::from_ptr((library.version)()) };
    Ok(text.to_string_lossy().into_owned())
}

/// The instructions that libpcap makes of `expression` for frames of this link type.
pub(crate) fn compile(
    expression: &str,
    link_type: i32,
    snap_bytes: i32,
) -> Result<Vec<Instruction>, Error> {
    let library = library()?;
    let expression = CString::new(expression)
        .map_err(|_| Error::Expression("the expression contains a zero byte".into()))?;
    let _alone = COMPILING.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: any two numbers are allowed; null is looked for below.
    let handle = NonNull::new(unsafe { (library.open_dead)(link_type, snap_bytes) })
        .map(|handle| Open { library, handle })
        .ok_or_else(|| Error::Expression("out of memory".into()))?;
    let mut program = RawProgram {
        length: 0,
        instructions: std::ptr::null_mut(),
    };
    // SAFETY: an open handle, a program to be filled, and a string that ends with a zero.
    let failed = unsafe {
        (library.compile)(
            handle.handle.as_ptr(),
            &mut program,
            expression.as_ptr(),
            OPTIMISE,
            NETMASK_NONE,
        )
    } != 0;
    if failed {
        return Err(Error::Expression(handle.error()));
    }
    let instructions = if program.instructions.is_null() {
        Vec::new()
    } else {
        // SAFETY: libpcap succeeded, so there are `length` instructions of this layout.
        unsafe { std::slice::from_raw_parts(program.instructions, program.length as usize) }
            .to_vec()
    };
    // SAFETY: the program is the one that was just compiled, and is not used again.
    unsafe { (library.free_code)(&mut program) };
    Ok(instructions)
}

/// An open handle; closed when it is dropped.
struct Open {
    library: &'static Libpcap,
    handle: NonNull<Handle>,
}

impl Open {
    fn error(&self) -> String {
        // SAFETY: the handle is open, and its error text ends with a zero and lives as long as it.
        let text = unsafe { CStr::from_ptr((self.library.get_error)(self.handle.as_ptr())) };
        text.to_string_lossy().into_owned()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: the handle was opened, and this is its end.
        unsafe { (self.library.close)(self.handle.as_ptr()) };
    }
}
