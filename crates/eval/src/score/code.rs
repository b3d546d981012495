//! Programs that are tried.

use minijinja::Value;
use terrace_config::TaskConfig;

use crate::template::Templates;

/// The whole program of an item, once `completion` was written; the error says why there is none.
pub(crate) fn program(
    task: &TaskConfig,
    fields: &serde_json::Value,
    completion: &str,
) -> Result<String, String> {
    let mut variables = fields.clone();
    variables["completion"] = completion.into();
    Templates::new().text(&task.code.program, &Value::from_serialize(variables))
}
