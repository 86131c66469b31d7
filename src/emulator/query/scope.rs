//! What the names in a statement stand for, besides columns and tables of the catalog.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    CastKind, CreateFunction, CreateFunctionBody, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, FunctionReturnType, Statement as SqlStatement, VisitMut, visit_expressions_mut,
};

use super::assign::literal_as;
use super::rewrite::{call, refuse_if};
use super::statements::{Parsed, Statement};
use super::types;
use crate::emulator::names::TableName;
use crate::emulator::wire::{Failure, Outcome};

#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    /// What CREATE TEMP TABLE made, by name.
    pub temporary: BTreeMap<String, TableName>,
    /// What CREATE TEMP FUNCTION made, by name in lower case.
    functions: BTreeMap<String, SqlFunction>,
}

/// A function in SQL: its body stands where it is called.
#[derive(Debug, Clone)]
struct SqlFunction {
    name: String,
    /// Names in lower case; ANY TYPE has no type.
    parameters: Vec<(String, Option<DataType>)>,
    body: Expr,
}

impl Scope {
    /// With the functions that a text defines.
    pub(super) fn with_functions(parsed: &[Parsed]) -> Outcome<Scope> {
        let mut scope = Scope::default();
        for Parsed { statement, .. } in parsed {
            if let Statement::CreateFunction(create) = statement {
                let function = SqlFunction::new(create.as_ref().clone(), &scope)?;
                scope.functions.insert(function.name.to_lowercase(), function);
            }
        }
        Ok(scope)
    }

    /// The statement with every call of one of the functions replaced.
    pub(super) fn inlined(&self, mut statement: Statement) -> Outcome<Statement> {
        match &mut statement {
            Statement::Select(query) => self.inline(query.as_mut())?,
            Statement::Insert(insert) => self.inline(insert.as_mut())?,
            Statement::Update(update) => self.inline(update.as_mut())?,
            Statement::Delete(delete) => self.inline(delete.as_mut())?,
            Statement::Merge(merge) => self.inline(merge.as_mut())?,
            Statement::CreateTable(create) => {
                if let Some(query) = &mut create.query {
                    self.inline(query.as_mut())?;
                }
            }
            // A view outlives the functions of the text that makes it.
            _ => {}
        }
        Ok(statement)
    }

    fn inline(&self, tree: &mut impl VisitMut) -> Outcome<()> {
        if self.functions.is_empty() {
            return Ok(());
        }
        // Innermost calls come first, so what is put in has none left.
        let found = visit_expressions_mut(tree, |expr| {
            let Expr::Function(call) = &*expr else { return ControlFlow::Continue(()) };
            let name = call.name.to_string().trim_matches('`').to_lowercase();
            let Some(function) = self.functions.get(&name) else { return ControlFlow::Continue(()) };
            match function.called(call) {
                Ok(body) => {
                    *expr = body;
                    ControlFlow::Continue(())
                }
                Err(failure) => ControlFlow::Break(failure),
            }
        });
        match found {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(failure) => Err(failure),
        }
    }
}

impl SqlFunction {
    fn new(create: CreateFunction, scope: &Scope) -> Outcome<Self> {
        let shown = SqlStatement::CreateFunction(create.clone()).to_string();
        let CreateFunction { name, args, return_type, function_body, language, options, .. } = create;
        refuse_if(language.is_some(), "functions in other languages than SQL")?;
        refuse_if(options.is_some_and(|o| !o.is_empty()), "OPTIONS of CREATE FUNCTION")?;
        let mut body = match function_body {
            Some(
                CreateFunctionBody::AsBeforeOptions { body, .. } | CreateFunctionBody::AsAfterOptions(body),
            ) => body,
            _ => return Err(Failure::unsupported_sql(shown)),
        };
        // A column of a subquery may have the name of a parameter, and then it is not the parameter.
        refuse_if(body.to_string().contains("SELECT"), "subqueries in CREATE FUNCTION")?;
        scope.inline(&mut body)?;
        if let Some(FunctionReturnType::DataType(data_type)) = return_type {
            body = coerced(body, data_type);
        }
        let mut parameters = Vec::new();
        for arg in args.unwrap_or_default() {
            let Some(name) = arg.name else { return Err(Failure::unsupported_sql(shown)) };
            let any = arg.data_type.to_string().to_uppercase().contains("ANY TYPE");
            parameters.push((name.value.to_lowercase(), (!any).then_some(arg.data_type)));
        }
        let name = name.to_string().trim_matches('`').to_owned();
        Ok(SqlFunction { name, parameters, body: Expr::Nested(Box::new(body)) })
    }

    /// The body with the arguments of a call in place of the parameters.
    fn called(&self, call: &Function) -> Outcome<Expr> {
        let wrong = || {
            let (name, count) = (&self.name, self.parameters.len());
            Failure::invalid_query(format!(
                "No matching signature for function {name}: it takes {count} arguments"
            ))
        };
        let given = match &call.args {
            FunctionArguments::None => Vec::new(),
            FunctionArguments::List(list) => list.args.clone(),
            FunctionArguments::Subquery(_) => return Err(wrong()),
        };
        if given.len() != self.parameters.len() || call.over.is_some() {
            return Err(wrong());
        }
        let mut values = BTreeMap::new();
        for ((name, data_type), arg) in self.parameters.iter().zip(given) {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) = arg else { return Err(wrong()) };
            let value = match data_type {
                Some(data_type) => coerced(value, data_type.clone()),
                None => Expr::Nested(Box::new(value)),
            };
            values.insert(name.as_str(), value);
        }
        let mut body = self.body.clone();
        let _ = visit_expressions_mut(&mut body, |expr| {
            if let Expr::Identifier(ident) = &*expr
                && let Some(value) = values.get(ident.value.to_lowercase().as_str())
            {
                *expr = value.clone();
            }
            ControlFlow::<()>::Continue(())
        });
        Ok(body)
    }
}

/// What the name of the call begins with that stands for a value of a declared type; nobody else can write it.
pub(super) const COERCED: &str = "COERCED.";

/// A value where one of the declared type is wanted: converted as far as that goes without a CAST.
fn coerced(expr: Expr, data_type: DataType) -> Expr {
    if let Some(kind) = types::kind(&data_type)
        && let Some(suffix) = types::cast_suffix(kind)
    {
        return literal_as(&expr, kind).unwrap_or_else(|| call(&format!("{COERCED}{suffix}"), vec![expr]));
    }
    // Arrays and structs may name their fields in another way.
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}
