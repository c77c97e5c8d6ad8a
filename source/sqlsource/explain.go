package sqlsource

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// planOf returns the database's plan for a statement that reads a batch behind
// a key, if any, and what is to be said of it. A database that does not show the
// plan, for want of a right or of the command, is no error.
func (q *query) planOf(ctx context.Context, statement string, args []any, after []value) ([]string, ceiling.Finding, error) {
	lines, problem, err := q.sql.explain(ctx, q.db.DB, statement, args, after != nil)
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

// slow is the finding for a statement that costs the more, the larger the table is.
func slow(format string, args ...any) ceiling.Finding {
	return ceiling.Finding{
		Level:    ceiling.Warning,
		Text:     fmt.Sprintf(format, args...) + ": a poll costs the more, the larger the table is",
		Remedies: ceiling.Advice("create an index that begins with the key's columns, in their order, and write the view or Select so that the database can use it"),
	}
}

// logPlan warns if no index is used to read on behind a cursor. It asks once,
// when there is one; nobody is to be told if it fails. What the catalog of
// Postgres told of a table's indexes needs no plan.
func (s *state) logPlan(ctx context.Context, after source.Cursor) {
	q := s.query
	if s.planned || s.guard == nil || q.texts && q.sql == (postgres{}) && !s.guard.Report().Lossy {
		return
	}
	key, _, err := decode(after, q.print, len(q.key))
	if err != nil || key == nil {
		return
	}
	s.planned = true
	statement, args, err := q.statement(s.plan, key, ceiling.Limit{}, firstLimit+1)
	if err != nil {
		return
	}
	_, f, err := q.planOf(ctx, statement, args, key)
	switch {
	case err != nil:
		q.logger().DebugContext(ctx, "plan not seen", "table", q.label, "err", retry.Text(err))
	case f.Level == ceiling.Warning:
		q.logger().WarnContext(ctx, "plan", "table", q.label, "warning", f.Text, "fix", f.Remedies[0].Words)
	}
}

var pgFull = regexp.MustCompile(`^\s*(?:->\s+)?(?:Parallel )?(Seq Scan on .*|Sort|Incremental Sort)$`)

// explain makes the plan as for a table so large that an index is used wherever
// one can be: what is left of scans and sorts is there for want of an index, and
// not because the table is small.
func (postgres) explain(ctx context.Context, db *sql.DB, statement string, args []any, behind bool) ([]string, ceiling.Finding, error) {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, ceiling.Finding{}, err
	}
	defer tx.Rollback()
	for _, set := range []string{"SET LOCAL enable_seqscan = off", "SET LOCAL enable_sort = off"} {
		if _, err := tx.ExecContext(ctx, set); err != nil {
			return nil, ceiling.Finding{}, err
		}
	}
	rows, err := tx.QueryContext(ctx, "EXPLAIN (COSTS OFF) "+statement, args...)
	if err != nil {
		return nil, ceiling.Finding{}, err
	}
	lines, _, err := table(rows)
	var bad []string
	seeks := !behind
	for _, line := range lines {
		if m := pgFull.FindStringSubmatch(line); m != nil {
			bad = append(bad, m[1])
		}
		seeks = seeks || strings.Contains(line, "Index Cond:")
	}
	switch {
	case err != nil || bad == nil && seeks:
		return lines, ceiling.Finding{}, err
	case bad == nil:
		return lines, slow("the rows are read in the order of an index, but from the first one on, whatever the cursor"), nil
	}
	if !slices.ContainsFunc(bad, func(node string) bool { return strings.HasSuffix(node, "Sort") }) {
		f := slow("each poll reads the whole of a table (%s)", strings.Join(bad, ", "))
		f.Remedies = ceiling.Advice("create an index on the columns by which the Select joins it")
		return lines, f, nil
	}
	return lines, slow("no index is used to read the rows in the order of the key (%s)", strings.Join(bad, ", ")), nil
}

// mysqlSmall is up to how many rows it tells nothing that MySQL reads and sorts
// all of them: it does so, with an index too, where a batch is a good part of them.
const mysqlSmall = 100 * firstLimit

func (mysql) explain(ctx context.Context, db *sql.DB, statement string, args []any, _ bool) ([]string, ceiling.Finding, error) {
	rows, err := db.QueryContext(ctx, "EXPLAIN "+statement, args...)
	if err != nil {
		return nil, ceiling.Finding{}, err
	}
	lines, steps, err := table(rows)
	var bad []string
	large := false
	for _, s := range steps {
		n, _ := strconv.ParseFloat(s["rows"], 64)
		if s["type"] == "ALL" || strings.Contains(s["Extra"], "Using filesort") || strings.Contains(s["Extra"], "Using temporary") {
			bad = append(bad, fmt.Sprintf("%s: type %s, %s", s["table"], s["type"], s["Extra"]))
			large = large || n > mysqlSmall
		}
	}
	switch {
	case err != nil || bad == nil:
		return lines, ceiling.Finding{}, err
	case !large:
		return lines, ceiling.Finding{Level: ceiling.Note, Text: fmt.Sprintf("the rows are so few that no index is used (%s); look again when there are more than %d", strings.Join(bad, "; "), mysqlSmall)}, nil
	}
	return lines, slow("no index is used to read the rows in the order of the key (%s)", strings.Join(bad, "; ")), nil
}

var sqliteFull = regexp.MustCompile(`^SCAN (\S+|\(.*\))$|AUTOMATIC .*INDEX`)

// explain need not mind how large the table is: SQLite does not, unless ANALYZE
// was run.
func (sqlite) explain(ctx context.Context, db *sql.DB, statement string, args []any, behind bool) ([]string, ceiling.Finding, error) {
	rows, err := db.QueryContext(ctx, "EXPLAIN QUERY PLAN "+statement, args...)
	if err != nil {
		return nil, ceiling.Finding{}, err
	}
	_, steps, err := table(rows)
	var lines, bad []string
	for _, s := range steps {
		line := s["detail"]
		lines = append(lines, line)
		if strings.Contains(line, "USE TEMP B-TREE") || behind && sqliteFull.MatchString(line) {
			bad = append(bad, line)
		}
	}
	if err != nil || bad == nil {
		return lines, ceiling.Finding{}, err
	}
	return lines, slow("no index is used to read the rows in the order of the key (%s)", strings.Join(bad, "; ")), nil
}

// table reads a small result of any shape: a line for each row, and its values
// by column. Of a single column the line is the value as it is.
func table(rows *sql.Rows) (lines []string, values []map[string]string, err error) {
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return nil, nil, err
	}
	for rows.Next() {
		cells := make([]sql.NullString, len(names))
		dest := make([]any, len(names))
		for i := range cells {
			dest[i] = &cells[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return nil, nil, err
		}
		row := map[string]string{}
		var parts []string
		for i, name := range names {
			row[name] = cells[i].String
			if cells[i].String != "" {
				parts = append(parts, name+"="+cells[i].String)
			}
		}
		if len(names) == 1 {
			parts = []string{cells[0].String}
		}
		lines, values = append(lines, strings.Join(parts, " ")), append(values, row)
	}
	return slices.Clip(lines), values, errors.Join(rows.Err(), rows.Close())
}
