-- A schema with what makes tables hard to read: keys of every kind, engines, and columns that the database sets.
CREATE TABLE customers (
	id bigint unsigned AUTO_INCREMENT PRIMARY KEY, mail varchar(100) UNIQUE, name varchar(50) NOT NULL, lock_version int NOT NULL DEFAULT 0,
	updated_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP);
CREATE TABLE orders (
	id char(36) CHARACTER SET ascii PRIMARY KEY, customer bigint unsigned NOT NULL, state enum('new', 'paid', 'shipped') NOT NULL DEFAULT 'new',
	total decimal(12,2) NOT NULL, note json, placed_at datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), FOREIGN KEY (customer) REFERENCES customers (id) ON DELETE RESTRICT);
CREATE TABLE order_lines (
	order_id char(36) CHARACTER SET ascii, line int, article varchar(12) NOT NULL, amount int NOT NULL CHECK (amount > 0),
	doubled int AS (amount * 2) STORED, PRIMARY KEY (order_id, line), FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE CASCADE);
CREATE TABLE articles (code varchar(12) PRIMARY KEY, title text, picture longblob, flags bit(3), weight float, made year, version int NOT NULL DEFAULT 1);
CREATE TABLE `Mixed Case` (`Id` int AUTO_INCREMENT PRIMARY KEY, `Some "Value"` text, `select` tinyint(1) DEFAULT 1);
CREATE TABLE counters (id binary(16) PRIMARY KEY, n int unsigned NOT NULL DEFAULT 0);
CREATE TABLE old_log (id int AUTO_INCREMENT PRIMARY KEY, line varchar(200), at date) ENGINE = MyISAM;
CREATE TABLE plain_log (at datetime, line varchar(200));
CREATE TABLE settings (name varchar(50) UNIQUE, value text);
CREATE TABLE events (id bigint AUTO_INCREMENT, at date NOT NULL, body mediumtext, PRIMARY KEY (id, at)) PARTITION BY HASH (id) PARTITIONS 3;
CREATE TABLE words (word varchar(30) COLLATE utf8mb4_general_ci PRIMARY KEY, n smallint);
CREATE TABLE hidden (id int PRIMARY KEY, secret int INVISIBLE DEFAULT 7, v varchar(10));
CREATE VIEW open_orders AS SELECT o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer WHERE o.state <> 'shipped';
