package pglog_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

// tracer calls functions before and after each statement of pgx. The second one gets the number of its rows.
type tracer struct {
	before func(query string)
	after  func(query string, rows int64)
}

// traced opens a database with a tracer.
func traced(t *testing.T, d dbtest.Database, tr tracer) *sqlx.DB {
	t.Helper()
	config, err := pgx.ParseConfig(d.DSN(dbtest.PGX))
	require.NoError(t, err)
	config.Tracer = tr
	db := sqlx.NewDb(stdlib.OpenDB(*config), "pgx")
	t.Cleanup(func() { db.Close() })
	return db
}

type tracedQuery struct{} // the key of a statement in its context

func (tr tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	if tr.before != nil {
		tr.before(q.SQL)
	}
	return context.WithValue(ctx, tracedQuery{}, q.SQL)
}

func (tr tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryEndData) {
	if query, ok := ctx.Value(tracedQuery{}).(string); ok && tr.after != nil {
		tr.after(query, q.CommandTag.RowsAffected())
	}
}
