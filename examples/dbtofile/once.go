package main

import (
	"context"
	"errors"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/snapshot"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// errSnapshot is why a directory of a snapshot cannot be used otherwise.
var errSnapshot = errors.New("the directory holds a snapshot, which -once made without a ceiling: it cannot be continued with new rows, verified or rewound; use another directory for -out")

// reader reads the table below its ceiling. If no ceiling fits, -once reads a snapshot instead, which
// has no ceiling, and its directory stays one of a snapshot.
type reader struct {
	table    *sqlsource.Table
	snapshot *snapshot.Rows // nil without -once
	chosen   bool
}

// newReader returns the source of the copy, and what closes it.
func newReader(t *sqlsource.Table, c config) (*reader, func() error) {
	r := &reader{table: t}
	if !c.snapshots() {
		return r, func() error { return nil }
	}
	r.snapshot = &snapshot.Rows{
		Options: snapshot.Options{DB: t.DB, MaxRowBytes: t.MaxRowBytes, Logger: t.Logger},
		Table:   snapshot.Table{Name: t.Name, Key: t.Key, Columns: t.Columns, Where: t.Where, Select: t.Select},
	}
	r.chosen = len(t.Key) == 0
	return r, r.snapshot.Close
}

// Fetch implements source.Source.
func (r *reader) Fetch(ctx context.Context, after source.Cursor, limit int) (source.Batch[row.Row], error) {
	made := snapshot.Made(after)
	switch {
	case made && r.snapshot == nil:
		return source.Batch[row.Row]{}, retry.Permanent(errSnapshot)
	case made, r.chosen && after == "":
		return r.snapshot.Fetch(ctx, after, limit)
	}
	b, err := r.table.Fetch(ctx, after, limit)
	if r.snapshot != nil && after == "" && errors.As(err, new(*ceiling.UnsafeError)) {
		r.chosen = true
		return r.snapshot.Fetch(ctx, after, limit)
	}
	return b, err
}

// refuseSnapshot returns an error if the directory of the copy holds a snapshot.
func refuseSnapshot(c config) error {
	history, err := filesink.History(c.out)
	if err == nil && len(history) > 0 && snapshot.Made(history[0].Cursor) {
		return errSnapshot
	}
	return nil // the action says what is wrong
}
