package sqlsink

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// readKeys lists the unique keys. One of parts of columns, or of expressions, identifies no row.
func (mysqlEngine) readKeys(ctx context.Context, db *sqlx.Conn, t *table, schema any, name string) error {
	last, usable := "", map[int]bool{}
	var keys [][]string
	err := ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var index, column string
		var whole bool
		if err := rows.Scan(&index, &column, &whole); err != nil {
			return err
		}
		if index != last || len(keys) == 0 {
			keys, last = append(keys, nil), index
			usable[len(keys)-1] = true
		}
		n := len(keys) - 1
		keys[n], usable[n] = append(keys[n], column), usable[n] && whole
		return nil
	}, `SELECT INDEX_NAME, COALESCE(COLUMN_NAME, ''), COLUMN_NAME IS NOT NULL AND SUB_PART IS NULL FROM information_schema.STATISTICS
		WHERE TABLE_SCHEMA = COALESCE(?, DATABASE()) AND TABLE_NAME = ? AND NON_UNIQUE = 0 ORDER BY INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX`, schema, name)
	for n, key := range keys {
		t.unique++
		if usable[n] {
			t.keys = append(t.keys, key)
		}
	}
	return err
}

// onDuplicate returns the clause for a key that exists. It would update a row also for another
// unique key, so it is for tables without one.
func (e mysqlEngine) onDuplicate(p *plan) string {
	sets := p.sets(e, "VALUES(%s)")
	if sets == "" {
		name := e.Quote(p.fields[p.key[0]].name)
		sets = name + " = " + name
	}
	return " ON DUPLICATE KEY UPDATE " + sets
}

// lookups is for how many keys one statement asks.
const lookups = 200

// update updates the rows whose keys exist, one by one, and returns the others. The server compares
// the keys, because only it knows the rules of the column.
func (e mysqlEngine) update(ctx context.Context, tx *sqlx.Tx, p *plan, rows []row.Row) (others []row.Row, err error) {
	values := make([]value, len(p.fields))
	for len(rows) > 0 {
		part := rows[:min(len(rows), lookups)]
		rows = rows[len(part):]
		wheres, sets := make([]string, len(part)), make([]string, len(part))
		var selects []string
		for i, r := range part {
			if err := p.values(r, values); err != nil {
				return nil, err
			}
			if wheres[i], sets[i], err = e.conditions(p, values); err != nil {
				return nil, err
			}
			selects = append(selects, fmt.Sprintf("SELECT %d FROM %s WHERE %s", i, p.name, wheres[i]))
		}
		existing := map[int]bool{}
		if err := ceiling.Each(ctx, tx, func(found *sql.Rows) error {
			var i int
			err := found.Scan(&i)
			existing[i] = true
			return err
		}, strings.Join(selects, " UNION ALL ")); err != nil {
			return nil, err
		}
		for i, r := range part {
			if !existing[i] {
				others = append(others, r)
			} else if sets[i] != "" {
				if _, err := tx.ExecContext(ctx, "UPDATE "+p.name+" SET "+sets[i]+" WHERE "+wheres[i]); err != nil {
					return nil, err
				}
			}
		}
	}
	return others, nil
}

// conditions returns the condition for the key of a row, and the assignments of its other values.
func (e mysqlEngine) conditions(p *plan, values []value) (where, set string, err error) {
	var wheres, sets []string
	for i, f := range p.fields {
		literal, err := f.appendLiteral(nil, values[i])
		if err != nil {
			return "", "", err
		}
		equal := e.Quote(f.name) + " = " + string(literal)
		if f.inKey {
			wheres = append(wheres, equal)
		} else {
			sets = append(sets, equal)
		}
	}
	return strings.Join(wheres, " AND "), strings.Join(sets, ", "), nil
}
