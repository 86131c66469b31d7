//! The rows of one SELECT for who has no job: as they come, and kept nowhere.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use tokio::sync::mpsc::Sender;

use super::execute::single;
use super::scope::Scope;
use super::statements::{self, Statement};
use super::usage::Usage;
use super::{Cancelled, Environment, QuerySpec, drain, positions, prepare, wording};
use crate::emulator::Emulator;
use crate::emulator::fields::{Field, arrow_schema};
use crate::emulator::files::conform;
use crate::emulator::wire::{Failure, Outcome};

/// An answer begins with its columns.
#[derive(Debug)]
pub(in crate::emulator) enum Piece {
    Columns {
        fields: Vec<Field>,
        /// Logical bytes that it reads, as a job would say.
        bytes: u64,
    },
    Rows(RecordBatch),
}

pub(super) async fn answer(
    emulator: &Emulator,
    spec: &QuerySpec,
    location: &str,
    sender: Sender<Outcome<Piece>>,
) -> Outcome<()> {
    let parsed = statements::parse(&spec.sql)?;
    let Some(statement @ Statement::Select(_)) = single(&parsed).cloned() else {
        return Err(Failure::unsupported_sql("what is no single SELECT, here"));
    };
    let scope = Scope::with_functions(&parsed)?;
    let Statement::Select(query) = scope.inlined(statement)? else {
        return Err(Failure::backend("a SELECT became something else"));
    };
    let prepared = prepare(Environment { emulator, spec, location, scope: &scope }, *query).await?;
    let (fields, bytes) = (prepared.fields.clone(), Usage::of(&prepared.scans).bytes());
    let wanted = arrow_schema(&fields);
    if sender.send(Ok(Piece::Columns { fields, bytes })).await.is_err() {
        return Ok(());
    }
    let reader = sender.clone();
    let cancelled: Cancelled = Arc::new(move || reader.is_closed());
    drain(prepared, cancelled, move |next| {
        while let Some(batch) = next() {
            let batch = positions::stored_rows(&batch, &wanted)?;
            let batch = conform(&batch, &wanted)
                .map_err(|e| wording::unfit("the rows do not fit their own columns", &e))?;
            if sender.blocking_send(Ok(Piece::Rows(batch))).is_err() {
                break; // nobody reads any more
            }
        }
        Ok(())
    })
    .await
}
