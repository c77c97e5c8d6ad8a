package sqlsource

import (
	"context"
	"fmt"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// planOf returns the database's plan for a statement that reads a batch after a key, if any,
// and what must be said about it. It is no error if the database does not show the plan.
func (q *query) planOf(ctx context.Context, statement string, args []any, after []dialect.Value) ([]string, ceiling.Finding, error) {
	lines, problem, err := q.sql.Explain(ctx, q.db.DB, statement, args, after != nil)
	switch {
	case err != nil && (ctx.Err() != nil || retry.Classify(err) != retry.Setup):
		return nil, ceiling.Finding{}, q.wrap(fmt.Errorf("asking for the plan: %w", err), after)
	case err != nil:
		return nil, ceiling.Finding{Level: ceiling.Warning, Text: "the database does not show how it reads the rows: " + retry.Text(err)}, nil
	case problem.Text == "":
		return lines, ceiling.Finding{Level: ceiling.OK, Text: "the rows are read by an index, in its order"}, nil
	}
	return lines, problem, nil
}

// logPlan warns, once, if no index is used to read on after a cursor. No plan is asked for
// where the ceiling has looked for an index itself.
func (s *state) logPlan(ctx context.Context, after source.Cursor) {
	q := s.query
	if s.explained || s.guard == nil || q.rows && q.sql.CeilingsSeeIndexes() && !s.guard.Report().Lossy {
		return
	}
	key, _, err := decode(after, q.print, len(q.key))
	if err != nil || key == nil {
		return
	}
	s.explained = true
	statement, args, err := q.statement(s.plan, s.plan.list, keyRange{after: key, limit: firstLimit + 1})
	if err != nil {
		return
	}
	_, f, err := q.planOf(ctx, statement, args, key)
	switch {
	case err != nil:
		q.logger().DebugContext(ctx, "query plan not available", "table", q.label, "err", retry.Text(err))
	case f.Level == ceiling.Warning:
		q.logger().WarnContext(ctx, "inefficient query plan", "table", q.label, "warning", f.Text, "fix", f.Remedies[0].Words)
	}
}
