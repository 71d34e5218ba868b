//! `pgml._pgml`: the client for Python.
//!
//! * [`client`]: the class `Client`, what the Python package calls.
//! * [`request`]: Python objects to JSON, once a request.
//! * [`objects`]: JSON to Python objects, once a chunk.
//! * [`stream`]: a synchronous and an asynchronous iterator over one function, and the awaitable of
//!   one result.
//! * [`wake`]: how a thread or an event loop waits for a row.
//! * [`process`]: what fork and exit mean for them.
//! * [`errors`]: errors as Python exceptions.
//! * [`logging`]: what the core tells of, for Python's `logging`.

use pgml_protocol::parameters::{PARAMETERS, Treatment};
use pyo3::prelude::*;
use pyo3::types::IntoPyDict;

mod client;
mod errors;
mod logging;
mod objects;
mod process;
mod request;
mod runtime;
mod stream;
mod wake;

#[pymodule(gil_used = false)]
mod _pgml {
    #[pymodule_export]
    use super::client::Client;
    #[pymodule_export]
    use super::stream::{AsyncChatCompletionStream, ChatCompletionStream, PendingResult};
    #[pymodule_export]
    use super::wake::LoopWaker;
    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        logging::install();
        process::watch(module)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        let treatments = PARAMETERS.iter().map(|(name, treatment)| match treatment {
            Treatment::Honoured => (*name, "honoured"),
            Treatment::Harmless => (*name, "harmless"),
            Treatment::Refused(_) => (*name, "refused"),
        });
        module.add("PARAMETERS", treatments.into_py_dict(module.py())?)
    }
}
