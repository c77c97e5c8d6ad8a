package postgres

import (
	"fmt"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// A recipe gives a table a column to read it by: the transaction that wrote a row, or the
// moment when it was written. Its statements can be run twice. They never touch a column,
// function or trigger of the user: the column has a name that is free, and the other names
// begin with zz_devotion and contain the table's. Triggers run in the order of their names,
// so that of a recipe comes last and no other one changes the value that it sets.
//
// Adding the column does not rewrite the table, because the defaults are not volatile. It
// waits for its lock only briefly, because other sessions queue up after it: if that fails, run
// the recipe again. Indexes are built without blocking writers, except that
// of a partitioned table.
type recipe struct {
	suffix string // of the names of functions, triggers and indexes
	column string
	typ    string
	value  string // what the column is set to, as pg_get_expr shows it
	add    string // the default for existing rows
}

var (
	txRecipe    = recipe{"tx", "_tx", "xid8", "pg_current_xact_id()", "pg_current_xact_id()"}
	stampRecipe = recipe{"at", "_at", "timestamp with time zone", "clock_timestamp()", "now()"}
)

// The templates. {table} is each table in turn whose rows are read, {root} the one that the
// others inherit from.
const (
	beginTemplate    = `BEGIN;`
	timeoutTemplate  = `SET LOCAL lock_timeout = '2s';`
	columnTemplate   = `ALTER TABLE {root} ADD COLUMN IF NOT EXISTS {column} {type} NOT NULL DEFAULT {add};`
	defaultTemplate  = `ALTER TABLE {root} ALTER COLUMN {column} SET DEFAULT {value};`
	functionTemplate = `CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS {body};`
	bodyTemplate     = ` BEGIN NEW.{column} := pg_catalog.{value}; RETURN NEW; END `
	dropTemplate     = `DROP TRIGGER IF EXISTS {trigger} ON {table};`
	triggerTemplate  = `CREATE TRIGGER {trigger} BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {function}();`
	alwaysTemplate   = `ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger};`
	commitTemplate   = `COMMIT;`
	indexTemplate    = `CREATE INDEX {concurrently}IF NOT EXISTS {index} ON {table} ({column}, {key});`
)

// body is the text of a recipe's function. A trigger whose function has exactly this text is
// known to set the column.
func (c recipe) body(column string) string {
	return strings.NewReplacer("{column}", quote(column), "{value}", c.value).Replace(bodyTemplate)
}

// statements returns those that add the column with its index, and those that add the trigger.
func (c recipe) statements(p *table, t ceiling.Table, column string, add, trigger bool) (list []string) {
	root := p.root()
	name, body := quote(objectName(root, c.suffix)), c.body(column)
	write := func(m member, templates ...string) {
		concurrently := "CONCURRENTLY "
		if m.kind == "p" {
			concurrently = ""
		}
		r := strings.NewReplacer(
			"{root}", root.name, "{table}", m.name, "{column}", quote(column), "{type}", c.typ, "{add}", c.add, "{value}", c.value,
			"{function}", quote(root.schema)+"."+name, "{trigger}", name, "{body}", "'"+strings.ReplaceAll(body, "'", "''")+"'",
			"{index}", quote(objectName(m, c.suffix)), "{concurrently}", concurrently, "{key}", t.Columns())
		for _, s := range templates {
			list = append(list, r.Replace(s))
		}
	}
	tables := p.inheriting(root)
	write(root, beginTemplate, timeoutTemplate)
	if add {
		write(root, columnTemplate)
		if c.add != c.value {
			write(root, defaultTemplate)
		}
	}
	if trigger {
		write(root, functionTemplate)
		for _, m := range tables {
			write(m, dropTemplate, triggerTemplate)
			if p.published {
				write(m, alwaysTemplate)
			}
		}
	}
	write(root, commitTemplate)
	if add {
		for _, m := range tables {
			write(m, indexTemplate)
		}
	}
	return list
}

// objectName names a function, trigger or index of a recipe. Names that would be cut off
// have the table's id instead of its name.
func objectName(m member, suffix string) string {
	name := fmt.Sprintf("zz_devotion_%s_%s", m.relation, suffix)
	if len(name) > 63 {
		name = fmt.Sprintf("zz_devotion_%d_%s", m.oid, suffix)
	}
	return name
}

// free returns a name for a recipe's column that no other column has, and whether the table
// has the recipe's column already.
func (c recipe) free(p *table) (column string, exists bool) {
	for i := 1; ; i++ {
		column := c.column
		if i > 1 {
			column = fmt.Sprint(c.column, i)
		}
		switch existing, taken := p.columns[column]; {
		case !taken:
			return column, false
		case existing.typ == c.typ && unqualified(existing.expr) == c.value:
			return column, true
		}
	}
}

// remedy offers the recipe. Changes of rows are read only with a trigger.
func (c recipe) remedy(p *table, t ceiling.Table, trigger bool) ceiling.Remedy {
	column, exists := c.free(p)
	words := "add a column that holds the transaction which wrote the row"
	if c.suffix == stampRecipe.suffix {
		words = "add a column that holds the moment when the row was written"
	}
	if exists {
		words = "read by the column " + column + ", which the table has already"
	}
	key := column
	for _, k := range t.Key {
		key += ", " + k.Name
	}
	words += "; then set Key to " + key
	if c.suffix == stampRecipe.suffix {
		words += " and Ceiling to stamp"
	}
	if trigger {
		words += ". Each row is read, and its latest version again after each change"
	} else {
		words += ". Each row is read as it was inserted; changes are not read"
	}
	if p.root().kind == "p" {
		words += ". Building the index blocks writers, because the table is partitioned"
	}
	words += ". (SELECT * then returns the column, too, and COPY without a list of columns expects it.)"
	return ceiling.Remedy{Words: words, Statements: c.statements(p, t, column, true, trigger)}
}

// remedies returns the recipes that fit every table. updates says that changes must be read, too:
// then only those with triggers fit.
func (p *table) remedies(t ceiling.Table, updates bool) []ceiling.Remedy {
	if p.version < 130000 {
		return ceiling.Advice("upgrade to Postgres 13 or later, and give the table a column of the type xid8")
	}
	with := txRecipe.remedy(p, t, true)
	if updates {
		return []ceiling.Remedy{with}
	}
	return []ceiling.Remedy{txRecipe.remedy(p, t, false), with}
}

// stampRemedies returns the ways out for a key that begins with a time.
func (p *table) stampRemedies(t ceiling.Table) []ceiling.Remedy {
	list := p.remedies(t, true)
	if p.version >= 130000 {
		list = append(list, stampRecipe.remedy(p, t, true))
	}
	if p.tree[0].keyType == stampRecipe.typ {
		list = append(list, ceiling.Remedy{Words: fmt.Sprintf("if a trigger sets %q to clock_timestamp() at each INSERT and UPDATE, set Ceiling to stamp, which takes your word for that", t.Key[0].Name)})
	}
	return list
}

// unqualified is an expression without the schema that pg_get_expr may show.
func unqualified(expr string) string { return strings.TrimPrefix(expr, "pg_catalog.") }

func quote(name string) string { return Dialect{}.Quote(name) }
