//! GoogleSQL's scalar functions, one line each: name, signatures, and what is computed.
//!
//! DataFusion's functions of the same names differ in many a detail (NULLs, negative positions, overflow), so
//! none of them is used here. Each function is registered twice: `bq_name`, and `bq_safe_name` for the prefix
//! `SAFE.`, which answers NULL where the other fails.

mod arrays;
mod bytes;
mod calendar;
mod collected;
mod formats;
mod hashes;
mod json;
mod nested;
mod numbers;
mod printf;
mod rows;
mod signatures;
mod text;

use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, AsArray, new_null_array};
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature as DfSignature,
    Volatility,
};

use crate::emulator::fields::Kind;
use crate::emulator::query::wording::plan_err;

pub(super) use calendar::{LAST_DAY_DEFAULT, shift_day};
pub(super) use nested::cast_nested;
pub(super) use numbers::{divide_numeric, in_numeric, multiply_numeric};
pub(super) use signatures::{Signature, signature_name, supertype};

/// Computes one batch: the arguments, all of one length, and that length.
type Compute = fn(&[ArrayRef], usize) -> Result<ArrayRef>;

/// The same, with what is known of the arguments.
type ComputeSeeing = fn(&[ArrayRef], &[FieldRef], usize) -> Result<ArrayRef>;

/// From the types given: those that the arguments are brought to, and the result's.
type Types = fn(&[DataType]) -> Result<(Vec<DataType>, DataType)>;

/// From the arguments, and the texts of those that are literals: the result's type.
type LiteralTypes = fn(&[FieldRef], &[Option<&str>]) -> Result<Field>;

/// How the type of a call is found.
#[derive(Debug)]
enum Typing {
    /// The first of these that fits.
    Listed(Vec<Signature>),
    /// Of arrays and structs of anything.
    Generic(Types),
    /// The result's type depends on literal arguments: names of fields, types of casts.
    Literal(LiteralTypes),
}

#[derive(Debug)]
pub(super) struct Function {
    name: &'static str,
    typing: Typing,
    compute: Compute,
    is_volatile: bool,
    /// What the result's Arrow type does not tell: that a text is JSON.
    kind: Option<Kind>,
    /// Whether the kind of the arguments, which their Arrow types do not tell either, is that of the result.
    keeps_kind: bool,
    /// Whether JSON may stand where a signature has STRING.
    takes_json: bool,
    /// In place of `compute`, where that needs to know which texts are JSON.
    compute_seeing: Option<ComputeSeeing>,
}

impl Function {
    /// `signatures` as the reference prints them: `"STRING, INT64 -> STRING | BYTES, INT64 -> BYTES"`.
    fn listed(name: &'static str, signatures: &'static str, compute: Compute) -> Self {
        let typing = Typing::Listed(signatures::parse(signatures));
        Function {
            name,
            typing,
            compute,
            is_volatile: false,
            kind: None,
            keeps_kind: false,
            takes_json: false,
            compute_seeing: None,
        }
    }

    fn generic(name: &'static str, types: Types, compute: Compute) -> Self {
        let typing = Typing::Generic(types);
        Function {
            name,
            typing,
            compute,
            is_volatile: false,
            kind: None,
            keeps_kind: false,
            takes_json: true,
            compute_seeing: None,
        }
    }

    fn literal(name: &'static str, types: LiteralTypes, compute: Compute) -> Self {
        let typing = Typing::Literal(types);
        Function {
            name,
            typing,
            compute,
            is_volatile: false,
            kind: None,
            keeps_kind: false,
            takes_json: true,
            compute_seeing: None,
        }
    }

    fn taking_json(self) -> Self {
        Function { takes_json: true, ..self }
    }

    fn seeing(self, compute: ComputeSeeing) -> Self {
        Function { compute_seeing: Some(compute), ..self }
    }

    fn refusing_json(self) -> Self {
        Function { takes_json: false, ..self }
    }

    /// The result is of what the arguments are of: an array of JSON, or one JSON of such an array.
    fn keeping_kind(self) -> Self {
        Function { keeps_kind: true, ..self }
    }

    fn of_kind(self, kind: Kind) -> Self {
        Function { kind: Some(kind), ..self }
    }

    fn volatile(self) -> Self {
        Function { is_volatile: true, ..self }
    }

    pub(super) fn signatures(&self) -> &[Signature] {
        match &self.typing {
            Typing::Listed(signatures) => signatures,
            Typing::Generic(_) | Typing::Literal(_) => &[],
        }
    }
}

static FUNCTIONS: LazyLock<Vec<Arc<Function>>> = LazyLock::new(|| {
    let mut functions = Vec::new();
    for list in [
        arrays::functions(),
        bytes::functions(),
        calendar::functions(),
        collected::functions(),
        formats::functions(),
        hashes::functions(),
        json::functions(),
        nested::functions(),
        numbers::functions(),
        printf::functions(),
        text::functions(),
    ] {
        functions.extend(list.into_iter().map(Arc::new));
    }
    functions
});

/// By GoogleSQL's name in capitals.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|f| f.name == name).map(Arc::as_ref)
}

/// All of them, for registration.
pub(super) fn all() -> impl Iterator<Item = ScalarUDF> {
    FUNCTIONS.iter().flat_map(|function| {
        [false, true].map(|safe| ScalarUDF::new_from_impl(Call::new(Arc::clone(function), safe)))
    })
}

#[derive(Debug)]
struct Call {
    function: Arc<Function>,
    name: String,
    is_safe: bool,
    signature: DfSignature,
}

impl Call {
    fn new(function: Arc<Function>, is_safe: bool) -> Self {
        let prefix = if is_safe { "bq_safe_" } else { "bq_" };
        let name = format!("{prefix}{}", function.name.to_lowercase());
        let volatility = if function.is_volatile { Volatility::Volatile } else { Volatility::Immutable };
        Call { function, name, is_safe, signature: DfSignature::user_defined(volatility) }
    }

    fn types(&self, given: &[DataType]) -> Result<(Vec<DataType>, Option<DataType>)> {
        match &self.function.typing {
            Typing::Listed(listed) => {
                let (wanted, result) = signatures::choose(self.function.name, listed, given)?;
                Ok((wanted, Some(result)))
            }
            Typing::Generic(types) => types(given).map(|(wanted, result)| (wanted, Some(result))),
            Typing::Literal(_) => Ok((given.to_vec(), None)),
        }
    }
}

impl PartialEq for Call {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Call {}

impl Hash for Call {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Call {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &DfSignature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        self.types(given).map(|(wanted, _)| wanted)
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        match self.types(given)?.1 {
            Some(result) => Ok(result),
            None => datafusion::common::internal_err!("{} needs its literal arguments", self.name),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        if let Typing::Literal(types) = &self.function.typing {
            let literals: Vec<Option<&str>> =
                args.scalar_arguments.iter().map(|a| a.and_then(|a| a.try_as_str().flatten())).collect();
            return Ok(Arc::new(types(args.arg_fields, &literals)?.with_name(&self.name)));
        }
        let is_json = |f: &FieldRef| Kind::of_field(f) == Some(Kind::Json);
        if !self.function.takes_json && args.arg_fields.iter().any(is_json) {
            let name = self.function.name;
            return plan_err!("No matching signature for function {name} for argument types: JSON");
        }
        let given: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let field = Field::new(&self.name, self.return_type(&given)?, true);
        let mut kept = args.arg_fields.iter().filter(|_| self.function.keeps_kind);
        let kind = self.function.kind.or_else(|| kept.find_map(|field| Kind::of_field(field)));
        Ok(Arc::new(match (kind, field.data_type()) {
            // Of an array it is said at the items.
            (Some(kind), DataType::List(item)) => {
                let item = item.as_ref().clone().with_metadata(kind.metadata());
                field.with_data_type(DataType::List(Arc::new(item)))
            }
            (Some(kind), _) => field.with_metadata(kind.metadata()),
            (None, _) => field,
        }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let scalar = scalar && !self.function.is_volatile;
        let rows = if scalar { 1 } else { args.number_rows };
        let arrays: Vec<ArrayRef> = args.args.iter().map(|a| a.to_array(rows)).collect::<Result<_>>()?;
        let computed = match self.function.compute_seeing {
            Some(compute) => compute(&arrays, &args.arg_fields, rows),
            None => (self.function.compute)(&arrays, rows),
        };
        let result = match computed {
            Err(_) if self.is_safe => one_by_one(self.function.compute, &arrays, rows, args.return_type())?,
            computed => computed?,
        };
        // Functions whose result type hangs on literals make their arrays from the arguments alone.
        let result = match result.data_type() == args.return_type() {
            true => result,
            false => datafusion::arrow::compute::cast(&result, args.return_type())?,
        };
        match scalar {
            true => Ok(ColumnarValue::Scalar(only_value(&result)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}

/// The value of an array of one. DataFusion's own way forgets what is known of the items of a list.
pub(super) fn only_value(array: &ArrayRef) -> Result<ScalarValue> {
    match array.data_type() {
        DataType::List(_) => Ok(ScalarValue::List(Arc::new(array.as_list::<i32>().slice(0, 1)))),
        _ => ScalarValue::try_from_array(array, 0),
    }
}

/// `SAFE.`: NULL in the rows that fail, after the whole batch did.
fn one_by_one(compute: Compute, args: &[ArrayRef], rows: usize, result: &DataType) -> Result<ArrayRef> {
    let mut parts = Vec::with_capacity(rows);
    for row in 0..rows {
        let one: Vec<ArrayRef> = args.iter().map(|a| a.slice(row, 1)).collect();
        parts.push(compute(&one, 1).unwrap_or_else(|_| new_null_array(result, 1)));
    }
    let parts: Vec<&dyn datafusion::arrow::array::Array> = parts.iter().map(AsRef::as_ref).collect();
    match parts.as_slice() {
        [] => Ok(new_null_array(result, 0)),
        parts => Ok(concat(parts)?),
    }
}
