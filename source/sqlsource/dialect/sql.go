package dialect

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// Args collects the arguments of a statement.
type Args struct {
	Writer interface{ Placeholder(n int) string } // must be set
	List   []any
}

// Add adds an argument and returns expr with the placeholder for its first %s.
func (a *Args) Add(expr string, arg any) string {
	a.List = append(a.List, arg)
	return strings.Replace(expr, "%s", a.Writer.Placeholder(len(a.List)), 1)
}

// Fill adds the arguments of a condition that has a ? for each. It returns the condition
// with placeholders, and how many question marks it has outside of quotes.
func (a *Args) Fill(cond string, list []any) (string, int) {
	var b strings.Builder
	var quote rune
	marks := 0
	for _, c := range cond {
		switch {
		case quote == 0 && c == '?':
			if marks++; marks <= len(list) {
				b.WriteString(a.Add("%s", list[marks-1]))
			}
			continue
		case c == quote: // a doubled one opens again at once
			quote = 0
		case quote == 0 && strings.ContainsRune("\"'`", c):
			quote = c
		}
		b.WriteRune(c)
	}
	return b.String(), marks
}

// CompareRows implements Compare for databases that compare rows by an index: (a, b) > (1, 2).
func CompareRows(columns []KeyColumn, key []Value, upTo bool, args *Args) (string, error) {
	op := " > "
	if upTo {
		op = " <= "
	}
	var refs, marks []string
	for i, c := range columns {
		expr, arg, err := c.Bind(key[i])
		if err != nil {
			return "", Misfit(c, key[i], err)
		}
		refs = append(refs, c.Ref)
		marks = append(marks, args.Add(expr, arg))
	}
	if len(columns) == 1 {
		return refs[0] + op + marks[0], nil
	}
	return "(" + strings.Join(refs, ", ") + ")" + op + "(" + strings.Join(marks, ", ") + ")", nil
}

// CompareColumns implements Compare for databases that do not:
// a >= 1 AND (a > 1 OR (a = 1 AND b > 2)).
func CompareColumns(columns []KeyColumn, key []Value, upTo bool, args *Args) (string, error) {
	op, last := " > ", " > "
	if upTo {
		op, last = " < ", " <= "
	}
	var fail error
	compare := func(i int, op string) string {
		expr, arg, err := columns[i].Bind(key[i])
		if err != nil && fail == nil {
			fail = Misfit(columns[i], key[i], err)
		}
		return columns[i].Ref + op + args.Add(expr, arg)
	}
	var beyond func(i int) string
	beyond = func(i int) string {
		if i == len(columns)-1 {
			return compare(i, last)
		}
		return "(" + compare(i, op) + " OR (" + compare(i, " = ") + " AND " + beyond(i+1) + "))"
	}
	first := ""
	if len(columns) > 1 {
		first = compare(0, op[:2]+"= ") + " AND "
	}
	return first + beyond(0), fail
}

// QuoteWith quotes a name with q, which is doubled inside.
func QuoteWith(q, name string) string { return q + strings.ReplaceAll(name, q, q+q) + q }

// QuoteAll quotes the parts of a name and joins them by dots.
func QuoteAll(w interface{ Quote(name string) string }, parts []string) string {
	quoted := make([]string, len(parts))
	for i, p := range parts {
		quoted[i] = w.Quote(p)
	}
	return strings.Join(quoted, ".")
}

// FreeName returns the name or, if a column has that, the first of name2, name3, ... that is free.
func FreeName(name string, columns []string) string {
	free := name
	for i := 2; slices.ContainsFunc(columns, func(c string) bool { return strings.EqualFold(c, free) }); i++ {
		free = fmt.Sprint(name, i)
	}
	return free
}

// ReadPlan runs a statement with a small result of any shape, such as EXPLAIN. It returns each
// row's values by column.
func ReadPlan(ctx context.Context, db ceiling.Queryer, statement string, args []any) (steps []map[string]string, err error) {
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		names, err := rows.Columns()
		cells, dest := make([]sql.NullString, len(names)), make([]any, len(names))
		for i := range cells {
			dest[i] = &cells[i]
		}
		err = errors.Join(err, rows.Scan(dest...))
		step := map[string]string{}
		for i, name := range names {
			step[name] = cells[i].String
		}
		steps = append(steps, step)
		return err
	}, statement, args...)
	return steps, err
}

// Slow returns the finding about a plan that costs more as the table grows.
func Slow(format string, args ...any) ceiling.Finding {
	return ceiling.Finding{
		Level:    ceiling.Warning,
		Text:     fmt.Sprintf(format, args...) + ": each poll costs more as the table grows",
		Remedies: ceiling.Advice("create an index that begins with the key's columns, in their order, and write the view or Select so that the database can use it"),
	}
}
