-- A schema with what makes tables hard to read: keys of every kind, and values of any type.
CREATE TABLE customers (id INTEGER PRIMARY KEY AUTOINCREMENT, mail TEXT UNIQUE, name TEXT NOT NULL, lock_version INT NOT NULL DEFAULT 0, updated_at TIMESTAMP);
CREATE TABLE orders (id TEXT NOT NULL PRIMARY KEY, customer INTEGER NOT NULL REFERENCES customers ON DELETE CASCADE, total NUMERIC, placed_at DATETIME DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE order_lines (order_id TEXT NOT NULL, line INT NOT NULL, amount INT NOT NULL CHECK (amount > 0), doubled INT GENERATED ALWAYS AS (amount * 2), PRIMARY KEY (order_id, line)) WITHOUT ROWID;
CREATE TABLE articles (code VARCHAR(12) NOT NULL PRIMARY KEY, title, picture BLOB, weight REAL, version INT NOT NULL DEFAULT 1);
CREATE TABLE "Mixed Case" ("Id" INTEGER PRIMARY KEY, "Some ""Value""" TEXT, "select" BOOLEAN DEFAULT 1);
CREATE TABLE counters (id BLOB NOT NULL PRIMARY KEY, n INT NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE log (at DATETIME, line TEXT);
CREATE TABLE settings (name TEXT UNIQUE, value TEXT);
CREATE TABLE anything (id INT PRIMARY KEY NOT NULL, value);
CREATE TABLE backwards (id INTEGER PRIMARY KEY DESC, value TEXT) STRICT;
CREATE TABLE audit (id INTEGER PRIMARY KEY, what TEXT);
CREATE TRIGGER audited AFTER UPDATE OF name ON customers BEGIN INSERT INTO audit (what) VALUES ('renamed ' || OLD.id); END;
CREATE TABLE touched (id INTEGER PRIMARY KEY, v TEXT, updated_at TEXT);
CREATE TRIGGER touch AFTER UPDATE OF v ON touched BEGIN UPDATE touched SET updated_at = 'now' WHERE id = NEW.id; END;
CREATE VIEW open_orders AS SELECT o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer;
