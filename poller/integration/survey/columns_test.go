package survey

import (
	"regexp"
	"strings"

	"github.com/stretchr/testify/require"
	"testing"

	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

var isTrigger = regexp.MustCompile(`(?s)^(--[^\n]*\n|/\*.*?\*/|\s)*CREATE\s+(TEMP\s+|TEMPORARY\s+)?TRIGGER\b`)

// column is a column of a table, as the generator of values must know it.
type column struct {
	Name     string
	Base     string // the type without a length, in lower case; of a domain the type below
	Full     string // the type as it is declared
	Length   int    // the greatest length of a text or a string of bits; 0: not limited
	Required bool   // NOT NULL without a default
	Computed bool   // the database always makes its values
	Hidden   bool   // an INSERT without columns leaves it out
	Labels   string // of an enum, separated by commas
	Array    bool
}

// table is a relation with its columns.
type table struct {
	dialect.Relation
	sql     string // its name for SQL
	columns []column
}

const postgresColumns = `SELECT a.attname::text AS name, format_type(b.oid, NULL) AS base, format_type(a.atttypid, a.atttypmod) AS "full",
	CASE WHEN b.typname IN ('varchar', 'bpchar') THEN greatest(greatest(a.atttypmod, t.typtypmod) - 4, 0)
		WHEN b.typname IN ('bit', 'varbit') THEN greatest(a.atttypmod, t.typtypmod, 0) ELSE 0 END AS length,
	(a.attnotnull OR t.typnotnull) AND NOT a.atthasdef AND a.attidentity = '' AS required, a.attgenerated <> '' OR a.attidentity = 'a' AS computed, false AS hidden,
	COALESCE((SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = b.oid), '') AS labels, x.typcategory = 'A' AS array
	FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
	JOIN LATERAL (WITH RECURSIVE d(oid) AS (SELECT t.oid UNION SELECT p.typbasetype FROM d JOIN pg_type p ON p.oid = d.oid AND p.typtype = 'd')
		SELECT p.oid, p.typcategory, p.typelem FROM d JOIN pg_type p ON p.oid = d.oid AND p.typtype <> 'd') AS x ON true
	JOIN pg_type b ON b.oid = CASE WHEN x.typcategory = 'A' THEN x.typelem ELSE x.oid END
	WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`

const mariadbColumns = "SELECT COLUMN_NAME AS `name`, LOWER(DATA_TYPE) AS `base`, COLUMN_TYPE AS `full`, LEAST(COALESCE(CHARACTER_MAXIMUM_LENGTH, 0), 1000) AS `length`, " +
	"IS_NULLABLE = 'NO' AND COLUMN_DEFAULT IS NULL AND EXTRA NOT LIKE '%auto_increment%' AS `required`, IS_GENERATED = 'ALWAYS' AS `computed`, EXTRA LIKE '%INVISIBLE%' AS `hidden`, " +
	"CASE WHEN DATA_TYPE IN ('enum', 'set') THEN REPLACE(SUBSTRING(COLUMN_TYPE, LOCATE('(', COLUMN_TYPE) + 1), '''', '') ELSE '' END AS `labels`, 0 AS `array` " +
	"FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION"

const sqliteColumns = `SELECT name, lower(type) AS base, type AS "full", 0 AS length, ("notnull" AND dflt_value IS NULL) OR pk > 0 AS required,
	hidden IN (2, 3) AS computed, hidden > 0 AS hidden, '' AS labels, 0 AS array FROM pragma_table_xinfo(?) ORDER BY cid`

// describe reads the columns of a relation.
func (d database) describe(t *testing.T, r dialect.Relation) table {
	tb := table{Relation: r, sql: d.quote(r.Name)}
	statement, name := sqliteColumns, r.Name
	switch d.engine {
	case "postgres":
		tb.sql = d.quote(r.Schema) + "." + tb.sql
		statement, name = postgresColumns, tb.sql
	case "mariadb":
		statement = mariadbColumns
	}
	require.NoError(t, d.Select(&tb.columns, statement, name), r.Label())
	for i := range tb.columns {
		tb.columns[i].Labels = strings.TrimSuffix(tb.columns[i].Labels, ")")
	}
	return tb
}

func (d database) quote(name string) string {
	if d.engine == "mariadb" {
		return dialect.QuoteWith("`", name)
	}
	return dialect.QuoteWith(`"`, name)
}

// column returns the column with a name.
func (t table) column(name string) column {
	for _, c := range t.columns {
		if strings.EqualFold(c.Name, name) {
			return c
		}
	}
	return column{}
}

func (t table) inKey(name string) bool {
	for _, k := range t.Key {
		if strings.EqualFold(k, name) {
			return true
		}
	}
	return false
}
