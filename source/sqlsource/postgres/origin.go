package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// node is a step of a plan in JSON. Aliases are unique in a plan.
type node struct {
	Output   []string
	Relation string `json:"Relation Name"`
	Schema   string
	Alias    string
	Plans    []node
}

var (
	output = regexp.MustCompile(`^(?:"((?:[^"]|"")+)"|([^".()]+))\.(?:"((?:[^"]|"")+)"|([^".()]+))$`)
	part   = regexp.MustCompile(`_\d+$`) // what the alias of a partition adds to that of its table
)

// Origin implements [dialect.Reader]. The plan shows the column as alias.column.
func (d Dialect) Origin(ctx context.Context, db ceiling.Queryer, statement string, table []string, column string) (o dialect.Origin, err error) {
	var text string
	if err := db.QueryRowContext(ctx, "EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) "+statement).Scan(&text); err != nil {
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
	scan := plans[0].Plan.find(alias)
	if scan == nil {
		return o, nil
	}
	o.Table, o.Column = []string{"", ""}, name
	err = db.QueryRowContext(ctx, treeOf("to_regclass($1::text)::oid")+` SELECT n.nspname::text, c.relname::text, EXISTS (SELECT FROM tree WHERE oid = to_regclass($2::text)::oid)
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.oid = COALESCE(pg_partition_root(to_regclass($2::text)), to_regclass($2::text))`,
		dialect.QuoteAll(d, table), dialect.QuoteAll(d, []string{scan.Schema, scan.Relation})).Scan(&o.Table[0], &o.Table[1], &o.Same)
	o.Same = o.Same && name == column
	return o, err
}

// find returns the step that reads the table, or a partition of the table, with an alias.
func (n *node) find(alias string) *node {
	if n.Relation != "" && (n.Alias == alias || part.ReplaceAllString(n.Alias, "") == alias) {
		return n
	}
	for i := range n.Plans {
		if found := n.Plans[i].find(alias); found != nil {
			return found
		}
	}
	return nil
}
