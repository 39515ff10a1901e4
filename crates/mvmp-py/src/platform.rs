//! `mvmp.Platform`, and what the command line asks without one.
//!
//! Trees (statistics, configurations given as a dict) cross by `tree`.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use mvmp_core::{Options, StartError};
use mvmp_policy::{Config, ConfigError};
use pyo3::exceptions::{PyOSError, PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::Value;

use crate::errors::{self, Closed, Error, Place, config_error};
use crate::signals::PLATFORMS;
use crate::tree::{from_python, to_python};

/// Adds everything here to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Platform>()?;
    module.add_function(wrap_pyfunction!(check_config, module)?)?;
    module.add_function(wrap_pyfunction!(config_schema, module)?)?;
    module.add_function(wrap_pyfunction!(config_tree, module)?)?;
    module.add_function(wrap_pyfunction!(operator, module)?)?;
    module.add_function(wrap_pyfunction!(
        crate::rehearsal::rehearse_capture,
        module
    )?)?;
    module.add_function(wrap_pyfunction!(doctor_facts, module)?)?;
    module.add_function(wrap_pyfunction!(log_to_stderr, module)?)?;
    Ok(())
}

fn wrong(error: &ConfigError) -> PyErr {
    let place = Place {
        line: error.line,
        column: error.column,
        hint: error.hint.clone(),
    };
    config_error(error.to_string(), place)
}

/// Python's own error for a file that cannot be read: `FileNotFoundError`, `PermissionError`, …
fn unreadable(path: &Path, error: &std::io::Error) -> PyErr {
    let Some(errno) = error.raw_os_error() else {
        // It was read, and is no text.
        return config_error(format!("{}: {error}", path.display()), Place::nowhere());
    };
    let why = rustix::io::Errno::from_raw_os_error(errno).to_string();
    let why = why
        .split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned();
    PyOSError::new_err((errno, why, path.as_os_str().to_owned()))
}

/// A path, or the same as a dict.
pub fn read_config(config: &Bound<'_, PyAny>, ports: Option<Vec<String>>) -> PyResult<Config> {
    let mut read = if config.is_instance_of::<PyDict>() {
        Config::from_json(&from_python(config)?).map_err(|error| wrong(&error))?
    } else {
        let path: PathBuf = config.extract()?;
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        Config::from_toml(&text, &path.display().to_string()).map_err(|error| wrong(&error))?
    };
    for argument in ports.unwrap_or_default() {
        let port = mvmp_policy::config::PortSpec::from_argument(&argument)
            .map_err(|error| wrong(&error))?;
        read.replace_port(port).map_err(|error| wrong(&error))?;
    }
    Ok(read)
}

pub fn port_arguments(ports: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Vec<String>>> {
    let Some(ports) = ports else { return Ok(None) };
    if let Ok(map) = ports.cast::<PyDict>() {
        let argument = |(name, what): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
            Ok(format!("{}={}", name.str()?, what.str()?))
        };
        return map
            .iter()
            .map(argument)
            .collect::<PyResult<Vec<String>>>()
            .map(Some);
    }
    ports.extract::<Vec<String>>().map(Some)
}

/// Where a platform listens if nobody says: as the NFs' library looks for it.
fn default_socket() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = set("MVMP_SOCKET") {
        return path.into();
    }
    let uid = rustix::process::geteuid();
    let folder = match set("XDG_RUNTIME_DIR") {
        _ if uid.is_root() => PathBuf::from("/run/mvmp"),
        Some(folder) => Path::new(&folder).join("mvmp"),
        None => PathBuf::from(format!("/tmp/mvmp-{}", uid.as_raw())),
    };
    folder.join("mvmp.sock")
}

fn seconds(timeout: Option<f64>) -> PyResult<Option<Duration>> {
    let checked = |seconds: f64| {
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| PyValueError::new_err("timeout: seconds, 0 or more"))
    };
    timeout.map(checked).transpose()
}

/// The platform: ports, pools, workers, and the sockets that NFs connect to. Started by its constructor; one at a
/// time in a process.
#[pyclass(module = "mvmp")]
pub struct Platform {
    inner: Option<mvmp_core::Platform>,
    socket: PathBuf,
}

impl Platform {
    fn running(&self) -> PyResult<&mvmp_core::Platform> {
        self.inner
            .as_ref()
            .ok_or_else(|| Closed::new_err("the platform is stopped"))
    }

    /// Runs `wait` without the GIL; `wait` is given a question to ask now and then: has a signal come?
    fn waiting<R: Send>(
        &self,
        py: Python<'_>,
        wait: impl FnOnce(&mvmp_core::Platform, &mut dyn FnMut() -> bool) -> R + Send,
    ) -> PyResult<R> {
        let platform = self.running()?;
        let mut signal = None;
        let result = py.detach(|| {
            wait(platform, &mut || {
                signal = Python::attach(|py| py.check_signals().err());
                signal.is_some()
            })
        });
        match signal {
            Some(error) => Err(error),
            None => Ok(result),
        }
    }
}

#[pymethods]
impl Platform {
    #[new]
    #[pyo3(signature = (config, *, socket=None, harden=false, ports=None))]
    fn new(
        py: Python<'_>,
        config: &Bound<'_, PyAny>,
        socket: Option<PathBuf>,
        harden: bool,
        ports: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let config = read_config(config, port_arguments(ports)?)?;
        let socket = socket.unwrap_or_else(default_socket);
        let options = Options {
            socket: socket.clone(),
            harden,
        };
        let started = py.detach(|| mvmp_core::Platform::start(config, &options));
        let inner = started.map_err(|error| match error {
            StartError::Socket { .. } => PyOSError::new_err(error.to_string()),
            StartError::Port { .. } => errors::ConfigError::new_err(error.to_string()),
            _ => Error::new_err(error.to_string()),
        })?;
        PLATFORMS.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            inner: Some(inner),
            socket,
        })
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&mut self, py: Python<'_>, _exception: &Bound<'_, PyAny>) {
        self.stop(py);
    }

    /// Stops in order: NFs are told, outputs are written, ports and memory are given back.
    fn stop(&mut self, py: Python<'_>) {
        if let Some(platform) = self.inner.take() {
            py.detach(|| drop(platform));
            PLATFORMS.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The shared NF socket.
    #[getter]
    fn socket(&self) -> String {
        self.socket.display().to_string()
    }

    /// The books, as `mvmp status -o json` prints them.
    fn stats(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let platform = self.running()?;
        let stats = py.detach(|| platform.stats());
        to_python(py, &stats)
    }

    /// What was found at start: user, DPDK, pages.
    fn facts(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        to_python(py, self.running()?.facts())
    }

    /// Waits until all captures have ended, nobody holds a packet, and outputs are written.
    #[pyo3(signature = (timeout=None))]
    fn wait_drained(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let timeout = seconds(timeout)?;
        self.waiting(py, |platform, interrupted| {
            platform.wait_drained(timeout, interrupted)
        })?
        .map_err(PyTimeoutError::new_err)
    }

    /// Waits until an operator stops the platform; whether that has happened.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let timeout = seconds(timeout)?;
        self.waiting(py, |platform, interrupted| {
            platform.wait_stopped(timeout, interrupted)
        })
    }

    /// Puts a port that the configuration's devices name (back) into service.
    fn add_port(&self, py: Python<'_>, name: &str, spec: &Bound<'_, PyAny>) -> PyResult<()> {
        let spec = from_python(spec)?;
        let platform = self.running()?;
        py.detach(|| platform.add_port(name, spec))
            .map_err(|error| config_error(error, Place::nowhere()))
    }

    /// Takes a port out of service.
    fn remove_port(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        let platform = self.running()?;
        py.detach(|| platform.remove_port(name))
            .map_err(|error| config_error(error, Place::nowhere()))
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if self.inner.take().is_some() {
            PLATFORMS.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Reads a configuration; what is allowed but perhaps not meant, a sentence each.
#[pyfunction]
#[pyo3(signature = (config, ports=None))]
fn check_config(
    config: &Bound<'_, PyAny>,
    ports: Option<&Bound<'_, PyAny>>,
) -> PyResult<Vec<String>> {
    let config = read_config(config, port_arguments(ports)?)?;
    Ok(config.check().iter().map(ToString::to_string).collect())
}

/// A configuration as a tree, with its defaults, in the notation of the file.
#[pyfunction]
#[pyo3(name = "read_config", signature = (config, ports=None))]
fn config_tree(config: &Bound<'_, PyAny>, ports: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
    let read = read_config(config, port_arguments(ports)?)?;
    to_python(config.py(), &read.to_json())
}

/// The JSON Schema of a configuration, as text.
#[pyfunction]
fn config_schema() -> String {
    serde_json::to_string_pretty(&Config::schema()).unwrap_or_default()
}

/// Asks a running platform one thing over its operator's socket (`socket` with `.ctl` appended).
#[pyfunction]
fn operator(py: Python<'_>, socket: PathBuf, request: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let request = from_python(request)?;
    let reply = py.detach(|| ask(&socket, &request))?;
    to_python(py, &reply)
}

fn ask(socket: &Path, request: &Value) -> PyResult<Value> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let mut path = socket.as_os_str().to_owned();
    path.push(".ctl");
    let no = |error: rustix::io::Errno| {
        crate::errors::ConnectError::new_err(format!(
            "{}: {}",
            Path::new(&path).display(),
            std::io::Error::from(error)
        ))
    };
    let address = SocketAddrUnix::new(Path::new(&path)).map_err(no)?;
    let peer = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(no)?;
    rustix::net::connect(&peer, &address).map_err(no)?;
    let lost = |error: mvmp_wire::channel::ChannelError| {
        crate::errors::ConnectError::new_err(error.to_string())
    };
    mvmp_wire::long::send(&peer, request).map_err(lost)?;
    mvmp_wire::long::receive(&peer).map_err(lost)
}

/// What `mvmp doctor` can know without starting DPDK.
#[pyfunction]
fn doctor_facts(py: Python<'_>) -> PyResult<Py<PyAny>> {
    let seals = match mvmp_wire::memory::probe_seals() {
        Ok(()) => Value::Bool(true),
        Err(why) => Value::String(why),
    };
    to_python(
        py,
        &serde_json::json!({
            "seals": seals,
            "dpdk_version": mvmp_core::dpdk::version(),
            "drivers": mvmp_core::dpdk::DRIVERS.split(' ').collect::<Vec<_>>(),
        }),
    )
}

/// Writes the platform's log (NFs that come and go, quarantines, what was changed on interfaces) to stderr.
/// Levels: error, warn, info, debug. Only the first call of a process counts.
#[pyfunction]
#[pyo3(signature = (level="info"))]
fn log_to_stderr(level: &str) -> PyResult<()> {
    let level: tracing::Level = level
        .parse()
        .map_err(|_| PyValueError::new_err("level: error, warn, info or debug"))?;
    // A second subscriber is refused, and the first goes on.
    let _ = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .try_init();
    Ok(())
}
