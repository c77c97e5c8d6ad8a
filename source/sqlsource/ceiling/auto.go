package ceiling

import (
	"context"
	"fmt"
	"strings"
)

// Auto chooses the strategy that misses nothing on the table as it is: by the
// database, and on Postgres by the type of the key's first column. It never
// chooses a lossy one. It is what a nil Ceiling stands for.
type Auto struct{}

func (Auto) String() string { return "auto" }

// Open implements [Ceiling].
func (a Auto) Open(ctx context.Context, db Queryer, t Table) (Guard, error) {
	r := Report{Strategy: a.String()}
	if t.Name == "" {
		r.Add(Unsafe, "set the Query's field Table to the table that has the key", "no table is named, so it cannot be seen how rows are added")
		return nil, r.Err(t)
	}
	switch t.Dialect {
	case "postgres":
		c, err := choosePostgres(ctx, db, t)
		if err != nil {
			return nil, err
		}
		return c.Open(ctx, db, t)
	case "mysql":
		return DirtyProbe{}.Open(ctx, db, t)
	case "sqlite":
		return SingleWriter{mustSee: true}.Open(ctx, db, t)
	}
	r.Add(Unsafe, "set Ceiling to a strategy for this database", "none is known for the dialect %q", t.Dialect)
	return nil, r.Err(t)
}

func choosePostgres(ctx context.Context, db Queryer, t Table) (Ceiling, error) {
	var typ string
	err := db.QueryRowContext(ctx, `SELECT COALESCE((SELECT format_type(atttypid, NULL) FROM pg_catalog.pg_attribute
		WHERE attrelid = to_regclass($1::text) AND attname = $2::text AND NOT attisdropped), '')`, t.Name, t.Key[0].Name).Scan(&typ)
	if err != nil {
		return nil, fmt.Errorf("reading the type of the key: %w", err)
	}
	switch {
	case typ == "xid8":
		return TransactionID{}, nil
	case strings.HasPrefix(typ, "timestamp"):
		return Stamp{mustSee: true}, nil
	}
	return LockFence{}, nil
}
