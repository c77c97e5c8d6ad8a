package sqlsource

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	myroom "github.com/artifactofdevotion/devotion/source/sqlsource/mysql"
	pgroom "github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
	literoom "github.com/artifactofdevotion/devotion/source/sqlsource/sqlite"
)

// choose returns the ceiling that a nil Ceiling stands for.
func (d Dialect) choose(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Ceiling, error) {
	switch d {
	case Postgres:
		return pgroom.Choose(ctx, db, t)
	case MySQL:
		return myroom.Choose(ctx, db, t)
	}
	return literoom.Choose(ctx, db, t)
}

func (d Dialect) sql() ceiling.SQL {
	switch d {
	case Postgres:
		return pgroom.Dialect{}
	case MySQL:
		return myroom.Dialect{}
	}
	return literoom.Dialect{}
}

// ParseCeiling returns the ceiling of that name, as a setting of a program has it: auto,
// which is nil, lock-fence, transaction-id, dirty-probe, single-writer, stamp, none, and
// with a duration of package time grace=30s and lag=5m. What String returns is such a name.
func ParseCeiling(text string) (ceiling.Ceiling, error) {
	c, err := parseCeiling(text)
	if err != nil {
		return nil, fmt.Errorf("ceiling: %q: %w", text, err)
	}
	return c, nil
}

func parseCeiling(text string) (ceiling.Ceiling, error) {
	if text == "auto" {
		return nil, nil
	}
	for _, c := range slices.Concat(pgroom.Ceilings(), myroom.Ceilings(), literoom.Ceilings(), []ceiling.Ceiling{ceiling.None{}}) {
		if text == c.String() {
			return c, nil
		}
	}
	name, value, _ := strings.Cut(text, "=")
	if name != "grace" && name != "lag" {
		return nil, errors.New("want auto, lock-fence, transaction-id, dirty-probe, single-writer, stamp, grace=30s, lag=5m, or none")
	}
	d, err := time.ParseDuration(value)
	if err != nil || d <= 0 {
		return nil, fmt.Errorf("want a duration of more than 0 after %s, such as %[1]s=30s", name)
	}
	if name == "grace" {
		return ceiling.Grace{For: d}, nil
	}
	return ceiling.Lag{By: d}, nil
}
