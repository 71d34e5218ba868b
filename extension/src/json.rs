//! JSON arguments. pgrx's own `JsonB` panics on what serde_json cannot read (`1e400`, very deep
//! nesting), and a panic says nothing to a caller.

use pgml_protocol::{Error, Result};
use pgrx::callconv::{Arg, ArgAbi};
use pgrx::datum::{Datum, UnboxDatum};
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::prelude::*;
use pgrx::{direct_function_call, pg_sys};
use serde_json::Value;

/// A `jsonb` argument: its value, or why it cannot be read.
pub struct Jsonb(Result<Value, String>);

impl Jsonb {
    /// The value. `param` is what an error calls the argument.
    pub fn read(self, param: &str) -> Result<Value> {
        self.0.map_err(|problem| Error::invalid(param, format!("cannot be read: {problem}")))
    }
}

// Functions take text and json as bytes: in memory they are alike, and in a database of encoding
// SQL_ASCII the bytes may be any, at which pgrx would panic.

/// Reads a `json` or `text` argument that holds JSON.
pub fn parse(text: &[u8], param: &str) -> Result<Value> {
    serde_json::from_slice(text).map_err(|error| Error::invalid(param, format!("is no JSON: {error}")))
}

/// Reads a `text` argument.
pub fn text(bytes: &[u8], param: &str) -> Result<String> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::invalid(param, "is no UTF-8"))?;
    Ok(text.to_owned())
}

impl FromDatum for Jsonb {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the datum is a jsonb, which jsonb_out takes; it returns a C string.
        let text = unsafe { direct_function_call::<&core::ffi::CStr>(pg_sys::jsonb_out, &[Some(datum)]) };
        let text = text.map_or(&b""[..], core::ffi::CStr::to_bytes);
        Some(Jsonb(serde_json::from_slice(text).map_err(|error| error.to_string())))
    }
}

// What pgrx asks of a type before a function may take it.

// SAFETY: as for pgrx's JsonB, `from_datum` makes an owned value from any jsonb datum.
unsafe impl UnboxDatum for Jsonb {
    type As<'src>
        = Jsonb
    where
        Self: 'src;

    unsafe fn unbox<'src>(datum: Datum<'src>) -> Jsonb
    where
        Self: 'src,
    {
        // SAFETY: the caller vouches for the datum, which is not null.
        unsafe { Jsonb::from_datum(datum.sans_lifetime(), false) }.unwrap_or(Jsonb(Ok(Value::Null)))
    }
}

// SAFETY: as above.
unsafe impl<'fcx> ArgAbi<'fcx> for Jsonb {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Jsonb {
        // SAFETY: the SQL declares this argument as jsonb.
        unsafe { arg.unbox_arg_using_from_datum() }.unwrap_or(Jsonb(Ok(Value::Null)))
    }
}

// SAFETY: names the SQL type that the impls above read.
unsafe impl SqlTranslatable for Jsonb {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Jsonb);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("jsonb"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> = Ok(ReturnsRef::One(SqlMappingRef::literal("jsonb")));
}
