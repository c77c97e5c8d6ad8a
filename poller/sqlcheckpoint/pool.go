package sqlcheckpoint

import (
	"context"
	"database/sql"
)

// queryer runs statements: the pool, or the caller's transaction.
type queryer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// rewrite changes a statement and its arguments so that it takes a single round trip.
type rewrite = func(query string, args []any) (string, []any)

// oneTrip is a dialect whose drivers prepare statements in a separate round trip. With a
// pooler such as PgBouncer, the session that executes one may not know it, or know another
// program's statement by its name.
type oneTrip interface {
	OneTrip(ctx context.Context, db *sql.DB) (rewrite, error)
}

// pool runs statements in the Store's pool of connections, in one round trip each.
type pool struct{ *Store }

func (p pool) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	query, args, err := p.rewrite(ctx, query, args)
	if err != nil {
		return nil, err
	}
	return p.db.ExecContext(ctx, query, args...)
}

func (p pool) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	query, args, err := p.rewrite(ctx, query, args)
	if err != nil {
		return nil, err
	}
	return p.db.QueryContext(ctx, query, args...)
}

func (p pool) rewrite(ctx context.Context, query string, args []any) (string, []any, error) {
	d, ok := p.dialect.(oneTrip)
	if !ok {
		return query, args, nil
	}
	f := p.trip.Load()
	if f == nil {
		found, err := d.OneTrip(ctx, p.db.DB)
		if err != nil {
			return "", nil, err
		}
		f = &found
		p.trip.Store(f)
	}
	query, args = (*f)(query, args)
	return query, args, nil
}
