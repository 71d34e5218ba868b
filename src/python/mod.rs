//! `pgml._pgml`: the client for Python.
//!
//! * [`client`]: the class `Client`, what the Python package calls.
//! * [`request`]: Python objects to JSON, once a request.
//! * [`objects`]: JSON to Python objects, once a chunk.
//! * [`stream`]: a synchronous and an asynchronous iterator over one function.
//! * [`pending`]: the request under way that both read.
//! * [`coroutine`]: the coroutine of one result.
//! * [`wait`]: how a thread or a greenlet waits for a row, and [`event_loop`]: how an event loop does.
//! * [`process`]: what a fork and the end of the interpreter mean for them.
//! * [`errors`]: errors as Python exceptions.
//! * [`logging`]: what the core tells of, for Python's `logging`.

use pgml_protocol::parameters::{PARAMETERS, Treatment};
use pyo3::prelude::*;
use pyo3::types::IntoPyDict;

mod client;
mod coroutine;
mod errors;
mod event_loop;
mod logging;
mod objects;
mod pending;
mod process;
mod request;
mod runtime;
mod stream;
mod wait;

#[pymodule(gil_used = false)]
mod _pgml {
    #[pymodule_export]
    use super::client::{Client, find_database_url, whole_number};
    #[pymodule_export]
    use super::coroutine::PendingResult;
    #[pymodule_export]
    use super::event_loop::LoopWaker;
    #[pymodule_export]
    use super::logging::next_log_record;
    #[pymodule_export]
    use super::stream::{AsyncChatCompletionStream, ChatCompletionStream};
    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        logging::install();
        process::watch_forks(module)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        let treatments = PARAMETERS.iter().map(|(name, treatment)| match treatment {
            Treatment::Honoured => (*name, "honoured"),
            Treatment::Harmless => (*name, "harmless"),
            Treatment::Refused(_) => (*name, "refused"),
        });
        module.add("PARAMETERS", treatments.into_py_dict(module.py())?)
    }
}
