package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// node is a step of a plan in JSON. Aliases are unique in a plan.
type node struct {
	Output   []string
	Type     string `json:"Node Type"`
	Relation string `json:"Relation Name"`
	Schema   string
	Alias    string
	Plans    []node
}

var (
	output = regexp.MustCompile(`^(?:"((?:[^"]|"")+)"|([^".()]+))\.(?:"((?:[^"]|"")+)"|([^".()]+))$`)
	part   = regexp.MustCompile(`_\d+$`) // what the alias of a partition adds to that of its table
)

// Origin implements [dialect.Reader]. The plan shows the column as alias.column, in each step but an Append.
func (d Dialect) Origin(ctx context.Context, db ceiling.Queryer, statement string, table []string, column string) (o dialect.Origin, err error) {
	var text string
	if err := db.QueryRowContext(ctx, "EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) "+statement+" LIMIT 1").Scan(&text); err != nil {
		return o, fmt.Errorf("asking which table has the key: %w", err)
	}
	var plans []struct{ Plan node }
	if err := json.Unmarshal([]byte(text), &plans); err != nil || len(plans) == 0 || len(plans[0].Plan.Output) == 0 {
		return o, nil //nolint:nilerr // a plan of another form shows nothing
	}
	m := output.FindStringSubmatch(plans[0].Plan.Output[0])
	if m == nil {
		return o, nil
	}
	unquote := strings.NewReplacer(`""`, `"`)
	alias, name := unquote.Replace(m[1])+m[2], unquote.Replace(m[3])+m[4]
	var names []string
	for _, scan := range plans[0].Plan.find(alias) {
		parts := []string{scan.Schema, scan.Relation}
		if slices.Equal(parts, table) {
			return dialect.Origin{Table: table, Column: name, Same: name == column}, nil
		}
		names = append(names, dialect.QuoteAll(d, parts))
	}
	roots, err := ceiling.List(ctx, db, func(o *dialect.Origin) []any {
		o.Table, o.Column = []string{"", ""}, name
		return []any{&o.Table[0], &o.Table[1], &o.Same}
	}, treeOf("to_regclass($1::text)::oid")+`, above(oid) AS (
			SELECT to_regclass(name)::oid FROM unnest($2::text[]) AS name UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN above ON i.inhrelid = above.oid
		) SELECT n.nspname::text, c.relname::text, COALESCE(c.oid IN (SELECT oid FROM tree), false) FROM above JOIN pg_catalog.pg_class c ON c.oid = above.oid
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid)`,
		dialect.QuoteAll(d, table), array(names))
	if err != nil || len(roots) != 1 {
		return o, err
	}
	roots[0].Same = roots[0].Same && name == column
	return roots[0], nil
}

// find returns the step that reads the table with an alias, or the steps that read its partitions or
// children. Below an Append they have a number at the end of the alias.
func (n *node) find(alias string) (scans []node) {
	var walk func(*node, bool) bool
	walk = func(n *node, parts bool) bool {
		if n.Alias == alias {
			scans = nil
			if n.Relation != "" {
				scans = []node{*n}
			}
			return true
		}
		if parts && n.Relation != "" && part.ReplaceAllString(n.Alias, "") == alias {
			scans = append(scans, *n)
		}
		for i := range n.Plans {
			if walk(&n.Plans[i], strings.HasSuffix(n.Type, "Append")) {
				return true
			}
		}
		return false
	}
	walk(n, false)
	return scans
}
