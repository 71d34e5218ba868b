//! What a request cost: the object `usage.resources`.
//!
//! The extension measures what it can see; the engine's own report, where there is one, completes
//! it. A figure that nobody measured is null.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

/// How the figures of the engine's process were obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// The engine ran this request only.
    Measured,
    /// The engine ran other requests at the same time; this one has a share by its tokens.
    Apportioned,
}

/// What the engine's process used for a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EngineShare {
    pub cpu: Duration,
    pub gpu: Option<Duration>,
    /// Joules.
    pub energy: Option<f64>,
    pub basis: Basis,
}

/// What the extension measured, from the beginning of the request to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    pub total: Duration,
    /// Until the first token arrived. `None`: there was none.
    pub first_token: Option<Duration>,
    /// CPU time of the Postgres backend.
    pub backend_cpu: Duration,
    /// `None` where the engine's process is not known, as on another machine.
    pub engine: Option<EngineShare>,
}

/// The members of `usage.resources`, in their order. Times are in milliseconds.
#[derive(Debug, PartialEq, Serialize)]
pub struct Resources {
    queue_ms: Option<f64>,
    first_token_ms: Option<f64>,
    prompt_ms: Option<f64>,
    completion_ms: Option<f64>,
    total_ms: f64,
    tokens_per_second: Option<f64>,
    backend_cpu_ms: f64,
    engine_cpu_ms: Option<f64>,
    gpu_ms: Option<f64>,
    energy_j: Option<f64>,
    basis: Option<Basis>,
}

impl Resources {
    /// Completes what was measured by what the engine reported.
    ///
    /// `answer` holds the members that the engine put beside `choices`, `usage` those of its usage.
    pub fn new(
        measured: &Measured,
        answer: &Map<String, Value>,
        usage: &Map<String, Value>,
        completion_tokens: Option<u64>,
    ) -> Resources {
        let reported = Reported::read(answer, usage);
        let first_token = measured.first_token;
        let completion_ms =
            reported.completion_ms.or_else(|| first_token.map(|first| milliseconds(measured.total - first)));
        let rate = |ms: f64| completion_tokens.filter(|_| ms > 0.0).map(|count| count as f64 * 1000.0 / ms);
        let engine = measured.engine.as_ref();
        Resources {
            queue_ms: reported.queue_ms.map(rounded),
            first_token_ms: first_token.map(milliseconds),
            prompt_ms: reported.prompt_ms.map(rounded),
            completion_ms: completion_ms.map(rounded),
            total_ms: milliseconds(measured.total),
            tokens_per_second: reported.tokens_per_second.or_else(|| rate(completion_ms?)).map(rounded),
            backend_cpu_ms: milliseconds(measured.backend_cpu),
            engine_cpu_ms: engine.map(|engine| milliseconds(engine.cpu)),
            gpu_ms: engine.and_then(|engine| engine.gpu).map(milliseconds),
            energy_j: engine.and_then(|engine| engine.energy).map(rounded),
            basis: engine.map(|engine| engine.basis),
        }
    }
}

/// The fields beside an answer that hold an engine's report.
pub(crate) const REPORTS: [&str; 3] = ["timings", "metrics", "x_groq"];

/// What engines report of the time that a request took.
#[derive(Default)]
struct Reported {
    queue_ms: Option<f64>,
    prompt_ms: Option<f64>,
    completion_ms: Option<f64>,
    tokens_per_second: Option<f64>,
}

impl Reported {
    fn read(answer: &Map<String, Value>, usage: &Map<String, Value>) -> Reported {
        let number = |object: Option<&Value>, name: &str| {
            object?.get(name)?.as_f64().filter(|number| number.is_finite() && *number >= 0.0)
        };
        // llama.cpp: milliseconds, see result_timings::to_json in its tools/server.
        let timings = answer.get("timings");
        // vLLM with --enable-per-request-metrics: milliseconds.
        let metrics = answer.get("metrics");
        // Groq, in `usage` and, streamed, in `x_groq.usage`: seconds.
        let groq = answer.get("x_groq").and_then(|groq| groq.get("usage"));
        let seconds = |name: &str| {
            let own = usage.get(name).and_then(Value::as_f64).filter(|number| number.is_finite());
            Some(own.or_else(|| number(groq, name))? * 1000.0)
        };
        Reported {
            queue_ms: number(metrics, "queue_time_ms").or_else(|| seconds("queue_time")),
            prompt_ms: number(timings, "prompt_ms").or_else(|| seconds("prompt_time")),
            completion_ms: number(timings, "predicted_ms")
                .or_else(|| number(metrics, "generation_time_ms"))
                .or_else(|| seconds("completion_time")),
            tokens_per_second: number(timings, "predicted_per_second")
                .or_else(|| number(metrics, "tokens_per_second")),
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1000.0)
}

/// To a microsecond, or a thousandth of another unit: what is beyond was not measured.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const MEASURED: Measured = Measured {
        total: Duration::from_millis(1500),
        first_token: Some(Duration::from_millis(500)),
        backend_cpu: Duration::from_micros(1234),
        engine: None,
    };

    fn resources(answer: Value, usage: Value) -> Value {
        let (Value::Object(answer), Value::Object(usage)) = (answer, usage) else { panic!("not objects") };
        serde_json::to_value(Resources::new(&MEASURED, &answer, &usage, Some(20))).unwrap()
    }

    #[test]
    fn what_nobody_measured_is_null() {
        let expected = json!({
            "queue_ms": null, "first_token_ms": 500.0, "prompt_ms": null, "completion_ms": 1000.0,
            "total_ms": 1500.0, "tokens_per_second": 20.0, "backend_cpu_ms": 1.234,
            "engine_cpu_ms": null, "gpu_ms": null, "energy_j": null, "basis": null,
        });
        assert_eq!(resources(json!({}), json!({})), expected);
    }

    #[test]
    fn the_engines_own_report_counts() {
        let llama_cpp =
            json!({"timings": {"prompt_ms": 43.2371, "predicted_ms": 250.0, "predicted_per_second": 80.0}});
        let vllm = json!({"metrics": {"queue_time_ms": 12.3, "generation_time_ms": 250.0, "tokens_per_second": 80.0}});
        let groq = json!({"x_groq": {"usage": {"queue_time": 0.0123, "prompt_time": 0.0432371, "completion_time": 0.25}}});
        for (answer, queue, prompt) in [
            (llama_cpp, Value::Null, json!(43.237)),
            (vllm, json!(12.3), Value::Null),
            (groq, json!(12.3), json!(43.237)),
        ] {
            let resources = resources(answer, json!({}));
            assert_eq!(resources["queue_ms"], queue, "{resources}");
            assert_eq!(resources["prompt_ms"], prompt, "{resources}");
            assert_eq!(resources["completion_ms"], 250.0, "{resources}");
            assert_eq!(resources["tokens_per_second"], 80.0, "{resources}");
        }
    }

    #[test]
    fn a_report_that_is_not_a_number_is_left_out() {
        let resources = resources(json!({"timings": {"prompt_ms": "soon", "predicted_ms": -1}}), json!({}));
        assert_eq!(resources["prompt_ms"], Value::Null);
        assert_eq!(resources["completion_ms"], 1000.0);
    }

    #[test]
    fn the_engines_process_is_told_with_its_basis() {
        let share = EngineShare {
            cpu: Duration::from_millis(800),
            gpu: Some(Duration::from_millis(7)),
            energy: Some(1.5),
            basis: Basis::Apportioned,
        };
        let measured = Measured { engine: Some(share), ..MEASURED };
        let resources =
            serde_json::to_value(Resources::new(&measured, &Map::new(), &Map::new(), None)).unwrap();
        assert_eq!(resources["engine_cpu_ms"], 800.0);
        assert_eq!(resources["gpu_ms"], 7.0);
        assert_eq!(resources["energy_j"], 1.5);
        assert_eq!(resources["basis"], "apportioned");
        assert_eq!(resources["tokens_per_second"], Value::Null);
    }
}
