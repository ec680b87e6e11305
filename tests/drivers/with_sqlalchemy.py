"""SQLAlchemy with its pool, and an Alembic migration: what an application with an ORM does all day."""

import tempfile
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import ForeignKey, MetaData, String, create_engine, event, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

from checks import check, main


def engine(dsn, **options):
    return create_engine(dsn.replace("postgresql://", "postgresql+psycopg://"), **options)


def models(marker):
    class Base(DeclarativeBase):
        metadata = MetaData(schema=f"orm_{marker}")

    class Author(Base):
        __tablename__ = "author"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(50), unique=True)
        books: Mapped[list["Book"]] = relationship(back_populates="author")

    class Book(Base):
        __tablename__ = "book"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        author_id: Mapped[int] = mapped_column(ForeignKey(f"orm_{marker}.author.id"))
        author: Mapped[Author] = relationship(back_populates="books")

    return Base, Author, Book


@check
def objects_are_written_and_read(dsn, marker):
    Base, Author, Book = models(marker)
    own = engine(dsn, pool_size=2)
    with own.begin() as connection:
        connection.execute(text(f"drop schema if exists orm_{marker} cascade; create schema orm_{marker}"))
    Base.metadata.create_all(own)
    with Session(own) as session, session.begin():
        session.add_all(Author(name=f"{marker}-{n}", books=[Book(title=f"{n}.{m}") for m in range(5)]) for n in range(20))
    with Session(own) as session:
        authors = session.scalars(select(Author).options(selectinload(Author.books)).order_by(Author.id)).all()
        assert [len(author.books) for author in authors] == [5] * 20
        assert all(author.name.startswith(marker) for author in authors)
        try:
            with session.begin_nested():
                session.add(Author(name=f"{marker}-0"))
        except Exception as problem:
            assert "unique" in str(problem), problem
        assert session.scalar(select(func.count()).select_from(Author)) == 20
    Base.metadata.drop_all(own)
    own.dispose()


@check
def settings_made_at_connect_stay(dsn, marker):
    own = engine(dsn, pool_size=1, max_overflow=0)

    @event.listens_for(own, "connect")
    def connected(connection, _record):
        connection.execute(f"set search_path = orm_path_{marker}, public")
        connection.commit()

    for _ in range(10):
        with own.connect() as connection:
            assert connection.scalar(text("show search_path")) == f"orm_path_{marker}, public"
    own.dispose()


@check
def rows_are_streamed(dsn, marker):
    own = engine(dsn)
    with own.connect().execution_options(stream_results=True, yield_per=50) as connection:
        rows = connection.execute(text("select generate_series(1, 400)")).scalars().all()
    assert rows == list(range(1, 401))
    own.dispose()


ENVIRONMENT = """
from alembic import context
from sqlalchemy import create_engine, text

schema = context.config.get_main_option("own_schema")
engine = create_engine(context.config.get_main_option("sqlalchemy.url"))
with engine.connect() as connection:
    context.configure(connection=connection, version_table_schema=schema)
    with context.begin_transaction():
        connection.execute(text("select pg_advisory_xact_lock(77)"))
        context.run_migrations()
engine.dispose()
"""

STEP = """
from alembic import op
import sqlalchemy as sa

revision = "{revision}"
down_revision = {down}


def upgrade():
    op.create_table("{table}", sa.Column("id", sa.Integer, primary_key=True), schema="{schema}")
    op.create_index("{table}_index", "{table}", ["id"], schema="{schema}")


def downgrade():
    op.drop_table("{table}", schema="{schema}")
"""


@check
def alembic_migrates_up_and_down(dsn, marker):
    schema = f"alembic_{marker}"
    own = engine(dsn)
    with own.begin() as connection:
        connection.execute(text(f"drop schema if exists {schema} cascade; create schema {schema}"))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "versions").mkdir()
        Path(folder, "env.py").write_text(ENVIRONMENT)
        down = "None"
        for n in range(4):
            step = STEP.format(revision=f"r{n}", down=down, table=f"step{n}", schema=schema)
            Path(folder, "versions", f"r{n}.py").write_text(step)
            down = f'"r{n}"'
        config = Config()
        config.set_main_option("script_location", folder)
        config.set_main_option("sqlalchemy.url", str(own.url.render_as_string(hide_password=False)).replace("%", "%%"))
        config.set_main_option("own_schema", schema)
        tables = text("select count(*) from information_schema.tables where table_schema = :schema and table_name like 'step%'")
        with LOCK:
            command.upgrade(config, "head")
        with own.connect() as connection:
            assert connection.scalar(tables, {"schema": schema}) == 4
        with LOCK:
            command.downgrade(config, "base")
        with own.connect() as connection:
            assert connection.scalar(tables, {"schema": schema}) == 0
    own.dispose()


if __name__ == "__main__":
    import threading

    # Alembic keeps its context in global variables, so only one client of a process migrates at a time.
    LOCK = threading.Lock()
    main()
